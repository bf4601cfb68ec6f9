# Read again once the endpoints are linked: their addresses appear only then.
data "mongodbatlas_advanced_cluster" "linked" {
  project_id = mongodbatlas_advanced_cluster.this.project_id
  name       = mongodbatlas_advanced_cluster.this.name

  depends_on = [mongodbatlas_privatelink_endpoint_service.this]
}

locals {
  connection_strings = data.mongodbatlas_advanced_cluster.linked.connection_strings
  address = (
    var.private_endpoint == null
    ? local.connection_strings.standard_srv
    : local.connection_strings.private_endpoint[0].srv_connection_string
  )
}

output "uri" {
  description = "Connection string for a client that has a certificate."
  value       = "${local.address}/?authSource=%24external&authMechanism=MONGODB-X509"
  sensitive   = true
}

output "key_arn" {
  description = "The KMS key under which the cluster is encrypted at rest."
  value       = aws_kms_key.this.arn
}

output "project_id" {
  description = "The continent's Atlas project."
  value       = mongodbatlas_project.this.id
}
