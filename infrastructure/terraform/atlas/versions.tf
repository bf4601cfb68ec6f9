terraform {
  required_version = ">= 1.9"

  required_providers {
    mongodbatlas = {
      source  = "mongodb/mongodbatlas"
      version = "~> 2.17"
    }
    # From 6.0 on a resource may name its own region: one provider serves seven.
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.0"
    }
  }

  # Bucket, key and region come by -backend-config; the state names every place of the federation.
  backend "s3" {
    encrypt      = true
    use_lockfile = true
  }
}

# Both take their credentials from the environment (README.md).
provider "mongodbatlas" {}

provider "aws" {
  region = var.stack_region
}
