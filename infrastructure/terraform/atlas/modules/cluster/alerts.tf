locals {
  metric_alerts = {
    replica_lag = { metric = "OPLOG_SLAVE_LAG_MASTER_TIME", threshold = 10, units = "SECONDS" }
    cpu_percent = { metric = "NORMALIZED_SYSTEM_CPU_USER", threshold = 80, units = "RAW" }
    disk_percent = {
      metric = "DISK_PARTITION_SPACE_USED_DATA", threshold = 80, units = "RAW"
    }
    connections_percent = { metric = "CONNECTIONS_PERCENT", threshold = 80, units = "RAW" }
    # Atlas counts no log-in failures by themselves; they are user assertions, as is each error
    # that a client is answered. Which it was is in the audit log.
    auth_failures = { metric = "ASSERT_USER", threshold = 5, units = "RAW" }
  }

  event_alerts = {
    no_primary  = "NO_PRIMARY"
    invalid_key = "AWS_ENCRYPTION_KEY_INVALID"
  }
}

resource "mongodbatlas_alert_configuration" "metric" {
  for_each = local.metric_alerts

  project_id = mongodbatlas_project.this.id
  event_type = "OUTSIDE_METRIC_THRESHOLD"
  enabled    = true

  metric_threshold_config {
    metric_name = each.value.metric
    operator    = "GREATER_THAN"
    threshold   = each.value.threshold
    units       = each.value.units
    mode        = "AVERAGE"
  }

  notification {
    type_name     = "EMAIL"
    email_address = var.alert_email
    delay_min     = 0
    interval_min  = 15
  }
}

resource "mongodbatlas_alert_configuration" "event" {
  for_each = local.event_alerts

  project_id = mongodbatlas_project.this.id
  event_type = each.value
  enabled    = true

  notification {
    type_name     = "EMAIL"
    email_address = var.alert_email
    delay_min     = 0
    interval_min  = 15
  }
}
