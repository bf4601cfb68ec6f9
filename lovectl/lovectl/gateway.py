"""Gives the local API the gateway responses of template.yaml, which MiniStack's SAM leaves out.

On AWS, SAM hands `GatewayResponses` of an `AWS::Serverless::Api` to API Gateway. MiniStack knows
gateway responses too, but does not take them from there; so we do what SAM would have done.
"""

from pathlib import Path
from typing import Any

import yaml


def apply_gateway_responses(client: Any, template: Path, api_ids: dict[str, str]) -> None:
    """Put the gateway responses of each API, and deploy its stage again.

    Parameters
    ----------
    client : boto3 client of `apigateway`
    template : Path
    api_ids : mapping
        Logical id in the template to API id.
    """
    resources = yaml.load(template.read_text(), _TemplateLoader)["Resources"]  # noqa: S506
    for logical_id, api_id in api_ids.items():
        properties = resources[logical_id]["Properties"]
        responses: dict[str, Any] = properties.get("GatewayResponses", {})
        for kind, response in responses.items():
            parameters = response.get("ResponseParameters", {})
            status = {"statusCode": str(response["StatusCode"])} if "StatusCode" in response else {}
            client.put_gateway_response(
                restApiId=api_id,
                responseType=kind,
                **status,
                responseParameters={
                    f"gatewayresponse.header.{name}": value
                    for name, value in parameters.get("Headers", {}).items()
                    # Computed ones are those of CORS, which locally `send` alone answers.
                    if value is not None
                },
                responseTemplates=response.get("ResponseTemplates", {}),
            )
        if responses:
            client.create_deployment(restApiId=api_id, stageName=properties["StageName"])


class _TemplateLoader(yaml.SafeLoader):
    """Reads CloudFormation's YAML; intrinsic functions (`!Ref` and so on) become None."""


_TemplateLoader.add_multi_constructor("!", lambda loader, suffix, node: None)
