# Names as in functions/persist (atlas.py, field_encryption.py).
locals {
  database           = "love_currency_db"
  key_vault_database = "encryption"

  # Insert-only: nobody here may change or remove a transaction, a rejection, an outcome or a
  # key's name. What the canary wrote is nobody's, work entries (pending) are no data: both go again.
  persist_rights = {
    FIND = {
      (local.database)           = ["transactions", "rejections", "finality", "pending", "canary"]
      (local.key_vault_database) = ["__keyVault", "keyNames"]
    }
    INSERT = {
      (local.database)           = ["transactions", "rejections", "finality", "pending", "canary"]
      (local.key_vault_database) = ["__keyVault", "keyNames"]
    }
    REMOVE = {
      (local.database) = ["canary", "pending"]
    }
    CREATE_INDEX = {
      (local.database) = ["transactions"]
    }
  }

  # Rewrapping replaces a data key's wrapping, a new data key takes over a name; neither sees a
  # transaction.
  key_rotation_rights = {
    FIND   = { (local.key_vault_database) = ["__keyVault", "keyNames"] }
    INSERT = { (local.key_vault_database) = ["__keyVault"] }
    UPDATE = { (local.key_vault_database) = ["__keyVault", "keyNames"] }
  }

  roles = {
    love_persist      = local.persist_rights
    love_key_rotation = local.key_rotation_rights
  }
}

resource "mongodbatlas_custom_db_role" "this" {
  for_each = local.roles

  project_id = mongodbatlas_project.this.id
  role_name  = each.key

  dynamic "actions" {
    for_each = each.value

    content {
      action = actions.key

      dynamic "resources" {
        for_each = flatten([
          for database, collections in actions.value : [
            for collection in collections : { database = database, collection = collection }
          ]
        ])

        content {
          database_name   = resources.value.database
          collection_name = resources.value.collection
        }
      }
    }
  }
}

# The CA whose certificates are believed; Atlas makes none itself.
resource "mongodbatlas_x509_authentication_database_user" "ca" {
  project_id        = mongodbatlas_project.this.id
  customer_x509_cas = var.client_ca_pem
}

resource "mongodbatlas_database_user" "persist" {
  project_id         = mongodbatlas_x509_authentication_database_user.ca.project_id
  username           = var.persist_subject
  auth_database_name = "$external"
  x509_type          = "CUSTOMER"

  roles {
    role_name     = mongodbatlas_custom_db_role.this["love_persist"].role_name
    database_name = "admin"
  }

  scopes {
    name = mongodbatlas_advanced_cluster.this.name
    type = "CLUSTER"
  }
}

resource "mongodbatlas_database_user" "key_rotation" {
  count = var.key_rotation_role_arn == null ? 0 : 1

  project_id         = mongodbatlas_project.this.id
  username           = var.key_rotation_role_arn
  auth_database_name = "$external"
  aws_iam_type       = "ROLE"

  roles {
    role_name     = mongodbatlas_custom_db_role.this["love_key_rotation"].role_name
    database_name = "admin"
  }

  scopes {
    name = mongodbatlas_advanced_cluster.this.name
    type = "CLUSTER"
  }
}
