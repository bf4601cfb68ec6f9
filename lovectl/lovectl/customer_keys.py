"""KMS' side of a rotation: new customer keys, and the list of them that functions read."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from botocore.exceptions import ClientError

from federation.regions import Continent

#: The output of template.yaml that names the parameter with the list.
CUSTOMER_KEYS_OUTPUT: Final = "CustomerKeysParameter"

Client = Callable[[str], Any]


class CustomerKeyRing:
    """All customer keys of a deployed stack, the newest of each continent first.

    Parameters
    ----------
    client : callable
        `client("kms")` gives a boto3 client.
    outputs : mapping
        The outputs of `template.yaml`.
    """

    def __init__(self, client: Client, outputs: Mapping[str, str]) -> None:
        self._client = client
        self._kms = client("kms")
        self._outputs = outputs
        self._parameter = outputs[CUSTOMER_KEYS_OUTPUT]

    def of(self, continent: Continent) -> list[str]:
        """The continent's key ARNs: those that rotations added, then the template's."""
        arns = [*self._rotated().get(continent.value, ()), self._template_s(continent)]
        return list(dict.fromkeys(arns))

    def create(self, continent: Continent) -> str:
        """A new customer key like the continent's newest one, in the same Regions.

        Its policy is that one's: it names the functions that may use the key, so that none of
        them is refused when it comes to know of it.
        """
        like = self._kms.describe_key(KeyId=self.of(continent)[0])["KeyMetadata"]
        policy = self._kms.get_key_policy(KeyId=like["Arn"], PolicyName="default")["Policy"]
        made = self._kms.create_key(
            Description=like.get("Description", ""),
            MultiRegion=bool(like.get("MultiRegion")),
            Policy=policy,
        )
        arn = str(made["KeyMetadata"]["Arn"])
        self._kms.enable_key_rotation(KeyId=arn)
        for replica in like.get("MultiRegionConfiguration", {}).get("ReplicaKeys", ()):
            self._kms.replicate_key(KeyId=arn, ReplicaRegion=replica["Region"], Policy=policy)
        return arn

    def put_first(self, continent: Continent, arn: str) -> None:
        """Let the functions encrypt new records under this key; all others go on decrypting."""
        rotated = self._rotated()
        template_s = self._template_s(continent)
        arns = [arn, *self.of(continent)]
        # The template's own key needs no mention but where it is to be the first again.
        kept = [one for one in dict.fromkeys(arns) if one != template_s or one == arn]
        if kept == rotated.get(continent.value, []) or (kept == [template_s] and not rotated):
            return
        rotated[continent.value] = kept
        self._client("ssm").put_parameter(
            Name=self._parameter,
            Value=json.dumps(rotated),
            Type="String",
            Overwrite=True,
            # After some rotations of all continents it outgrows a standard parameter's 4 KB.
            Tier="Intelligent-Tiering",
        )

    def _rotated(self) -> dict[str, list[str]]:
        try:
            answer = self._client("ssm").get_parameter(Name=self._parameter)
        except ClientError as error:
            if error.response["Error"]["Code"] == "ParameterNotFound":
                return {}
            raise
        found: dict[str, list[str]] = json.loads(answer["Parameter"]["Value"])
        return found

    def _template_s(self, continent: Continent) -> str:
        return self._outputs[f"{continent.value}KeyArn"]
