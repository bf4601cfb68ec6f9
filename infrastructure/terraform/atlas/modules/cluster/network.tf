locals {
  # A private endpoint for each region that has nodes: the primary may move to any of them.
  endpoint_regions = var.private_endpoint == null ? [] : var.regions
}

resource "mongodbatlas_privatelink_endpoint" "this" {
  for_each = toset(local.endpoint_regions)

  project_id               = mongodbatlas_project.this.id
  provider_name            = "AWS"
  region                   = each.key
  supported_remote_regions = local.is_remote[each.key] ? [local.stack_region_name] : null
}

locals {
  stack_region_name = upper(replace(var.stack_region, "-", "_"))
  is_remote         = { for region in var.regions : region => region != local.stack_region_name }
}

resource "aws_vpc_endpoint" "this" {
  for_each = mongodbatlas_privatelink_endpoint.this

  region             = var.stack_region
  service_region     = local.is_remote[each.key] ? lower(replace(each.key, "_", "-")) : null
  service_name       = each.value.endpoint_service_name
  vpc_endpoint_type  = "Interface"
  vpc_id             = var.private_endpoint.vpc_id
  subnet_ids         = var.private_endpoint.subnet_ids
  security_group_ids = var.private_endpoint.security_group_ids
}

resource "mongodbatlas_privatelink_endpoint_service" "this" {
  for_each = mongodbatlas_privatelink_endpoint.this

  project_id          = mongodbatlas_project.this.id
  private_link_id     = each.value.private_link_id
  endpoint_service_id = aws_vpc_endpoint.this[each.key].id
  provider_name       = "AWS"
}

# With a private endpoint nobody comes over the Internet at all.
resource "mongodbatlas_project_ip_access_list" "this" {
  for_each = var.private_endpoint == null ? var.allowed_cidrs : toset([])

  project_id = mongodbatlas_project.this.id
  cidr_block = each.key
  comment    = "The functions' NAT"
}
