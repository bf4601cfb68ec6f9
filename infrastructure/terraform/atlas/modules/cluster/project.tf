# Atlas keeps one customer key and one audit filter a project: each continent has a project.
resource "mongodbatlas_project" "this" {
  name   = "${var.project_name}-${var.continent}"
  org_id = var.atlas_org_id

  # The alerts that this module makes are the ones to answer.
  with_default_alerts_settings = false
}

locals {
  audited_changes = [
    "createUser", "updateUser", "dropUser", "dropAllUsersFromDatabase",
    "grantRolesToUser", "revokeRolesFromUser",
    "createRole", "updateRole", "dropRole", "dropAllRolesFromDatabase",
    "grantRolesToRole", "revokeRolesFromRole",
    "grantPrivilegesToRole", "revokePrivilegesFromRole",
    "createIndex", "dropIndex", "dropCollection", "dropDatabase", "renameCollection",
    "shutdown",
  ]
}

# Refused log-ins and refused work, every touch of the key vault, every change of rights or shape.
# Inserts that are allowed stay out: the transactions are their own record.
resource "mongodbatlas_auditing" "this" {
  project_id                  = mongodbatlas_project.this.id
  enabled                     = true
  audit_authorization_success = true # the key vault's reads; the filter drops all others
  audit_filter = jsonencode({
    "$or" = [
      { atype = "authenticate", result = { "$ne" = 0 } },
      { atype = "authCheck", result = { "$ne" = 0 } },
      { atype = "authCheck", "param.ns" = { "$regex" = "^${local.key_vault_database}\\." } },
      { atype = { "$in" = local.audited_changes } },
    ]
  })
}
