locals {
  # An odd number elects: three nodes in one region, or two and one.
  node_counts = length(var.regions) == 1 ? [3] : [2, 1]
}

resource "mongodbatlas_advanced_cluster" "this" {
  # The key is there before the first byte.
  project_id   = mongodbatlas_encryption_at_rest.this.project_id
  name         = var.name
  cluster_type = "REPLICASET"

  mongo_db_major_version         = var.mongo_db_major_version
  encryption_at_rest_provider    = "AWS"
  backup_enabled                 = true
  pit_enabled                    = true
  termination_protection_enabled = true
  redact_client_log_data         = true

  replication_specs = [
    {
      region_configs = [
        for position, region in var.regions : {
          provider_name = var.provider_key
          region_name   = region
          priority      = 7 - position
          electable_specs = {
            instance_size = var.instance_size
            node_count    = local.node_counts[position]
          }
          auto_scaling = {
            disk_gb_enabled = true
          }
        }
      ]
    }
  ]

  advanced_configuration = {
    minimum_enabled_tls_protocol = "TLS1_3"
    javascript_enabled           = false
    default_write_concern        = "majority"
  }

  lifecycle {
    prevent_destroy = true
  }
}

resource "mongodbatlas_cloud_backup_schedule" "this" {
  project_id   = mongodbatlas_advanced_cluster.this.project_id
  cluster_name = mongodbatlas_advanced_cluster.this.name

  reference_hour_of_day    = 3
  reference_minute_of_hour = 30
  restore_window_days      = var.restore_window_days

  policy_item_hourly {
    frequency_interval = 6
    retention_unit     = "days"
    retention_value    = var.restore_window_days
  }

  policy_item_daily {
    frequency_interval = 1
    retention_unit     = "days"
    retention_value    = 35
  }

  policy_item_weekly {
    frequency_interval = 7
    retention_unit     = "weeks"
    retention_value    = 8
  }

  policy_item_monthly {
    frequency_interval = 40 # the last day
    retention_unit     = "months"
    retention_value    = 13
  }
}
