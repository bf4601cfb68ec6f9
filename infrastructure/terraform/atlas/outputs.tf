output "uri_parameters" {
  description = "Continent to the name of the parameter that holds its connection string."
  value       = { for continent, parameter in aws_ssm_parameter.uri : continent => parameter.name }
}

output "key_arns" {
  description = "Continent to the KMS key under which its cluster is encrypted at rest."
  value       = { for continent, made in module.cluster : continent => made.key_arn }
}

output "project_ids" {
  description = "Continent to its Atlas project."
  value       = { for continent, made in module.cluster : continent => made.project_id }
}
