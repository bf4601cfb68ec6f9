module "cluster" {
  source   = "./modules/cluster"
  for_each = local.continents

  continent    = each.key
  name         = each.value.cluster
  provider_key = each.value.provider
  regions      = each.value.regions
  key_region   = each.value.key_region

  atlas_org_id           = var.atlas_org_id
  project_name           = var.project_name
  stack_region           = var.stack_region
  instance_size          = lookup(var.instance_sizes, each.key, var.instance_size)
  mongo_db_major_version = var.mongo_db_major_version
  restore_window_days    = var.restore_window_days
  private_endpoint       = each.value.provider == "AWS" ? var.private_endpoint : null
  allowed_cidrs          = var.allowed_cidrs
  client_ca_pem          = var.client_ca_pem
  persist_subject        = var.persist_subject
  key_rotation_role_arn  = var.key_rotation_role_arn
  alert_email            = var.alert_email
}

# What the functions read. The client certificate that a URI needs is not here: a state would keep
# its key (README.md).
resource "aws_ssm_parameter" "uri" {
  for_each = local.continents

  name        = "/love/mongo/${each.key}/uri"
  description = "Connection string of ${each.value.cluster}"
  type        = "SecureString"
  key_id      = var.parameter_key_id
  value       = module.cluster[each.key].uri
}

resource "aws_ssm_parameter" "key_arn" {
  for_each = local.continents

  name        = "/love/mongo/${each.key}/kms_key_arn"
  description = "KMS key under which ${each.value.cluster} is encrypted at rest"
  type        = "String"
  value       = module.cluster[each.key].key_arn
}
