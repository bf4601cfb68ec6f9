data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

resource "mongodbatlas_cloud_provider_access_setup" "this" {
  project_id    = mongodbatlas_project.this.id
  provider_name = "AWS"
}

# Atlas may take this role, and only for this project (external id).
data "aws_iam_policy_document" "atlas_trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "AWS"
      identifiers = [mongodbatlas_cloud_provider_access_setup.this.aws_config[0].atlas_aws_account_arn]
    }

    condition {
      test     = "StringEquals"
      variable = "sts:ExternalId"
      values   = [mongodbatlas_cloud_provider_access_setup.this.aws_config[0].atlas_assumed_role_external_id]
    }
  }
}

resource "aws_iam_role" "atlas" {
  name               = "love-atlas-${var.name}"
  description        = "Atlas wraps the storage keys of ${var.name} with it."
  assume_role_policy = data.aws_iam_policy_document.atlas_trust.json
}

data "aws_iam_policy_document" "atlas_key" {
  statement {
    actions   = ["kms:Encrypt", "kms:Decrypt", "kms:DescribeKey"]
    resources = [aws_kms_key.this.arn]
  }
}

resource "aws_iam_role_policy" "atlas" {
  name   = "wrap-storage-keys"
  role   = aws_iam_role.atlas.id
  policy = data.aws_iam_policy_document.atlas_key.json
}

data "aws_iam_policy_document" "key" {
  statement {
    sid       = "TheAccountAdministers"
    actions   = ["kms:*"]
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = ["arn:${data.aws_partition.current.partition}:iam::${data.aws_caller_identity.current.account_id}:root"]
    }
  }
}

resource "aws_kms_key" "this" {
  region                  = var.key_region
  description             = "Storage of ${var.name}, at rest."
  policy                  = data.aws_iam_policy_document.key.json
  enable_key_rotation     = true
  deletion_window_in_days = 30
  multi_region            = true # a replica in the second region outlives the first

  # Without it, the cluster and all its backups can't be read.
  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_kms_alias" "this" {
  region        = var.key_region
  name          = "alias/love/${var.name}"
  target_key_id = aws_kms_key.this.key_id
}

resource "mongodbatlas_cloud_provider_access_authorization" "this" {
  project_id = mongodbatlas_project.this.id
  role_id    = mongodbatlas_cloud_provider_access_setup.this.role_id

  aws {
    iam_assumed_role_arn = aws_iam_role.atlas.arn
  }

  depends_on = [aws_iam_role_policy.atlas]
}

resource "mongodbatlas_encryption_at_rest" "this" {
  project_id = mongodbatlas_project.this.id

  aws_kms_config {
    enabled                = true
    customer_master_key_id = aws_kms_key.this.arn
    region                 = upper(replace(var.key_region, "-", "_"))
    role_id                = mongodbatlas_cloud_provider_access_authorization.this.role_id
  }
}
