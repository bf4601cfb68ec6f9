variable "continent" {
  description = "The continent's name, as in federation/regions.py."
  type        = string
}

variable "name" {
  description = "The cluster's name."
  type        = string

  validation {
    condition     = can(regex("^mongo-[a-z]+$", var.name))
    error_message = "A cluster's name is mongo- and a short continent."
  }
}

variable "provider_key" {
  description = "Whose machines the cluster runs on."
  type        = string

  validation {
    condition     = contains(["AWS", "AZURE"], var.provider_key)
    error_message = "AWS or AZURE."
  }
}

variable "regions" {
  description = "Atlas' names of the electable regions, the preferred one first."
  type        = list(string)

  validation {
    condition     = contains([1, 2], length(var.regions))
    error_message = "One region holds three nodes, two hold two and one: an odd number elects."
  }
}

variable "key_region" {
  description = "AWS region of the KMS key."
  type        = string
}

variable "atlas_org_id" {
  description = "Atlas organisation that owns the project."
  type        = string
}

variable "project_name" {
  description = "What the project's name begins with."
  type        = string
}

variable "stack_region" {
  description = "AWS region of the functions' VPC."
  type        = string
}

variable "instance_size" {
  description = "Atlas tier."
  type        = string
}

variable "mongo_db_major_version" {
  description = "MongoDB's major version."
  type        = string
}

variable "restore_window_days" {
  description = "How many days back the cluster can be restored to any second."
  type        = number
}

variable "private_endpoint" {
  description = "The functions' VPC, or null."
  type = object({
    vpc_id             = string
    subnet_ids         = list(string)
    security_group_ids = list(string)
  })
}

variable "allowed_cidrs" {
  description = "CIDR blocks that may connect when there is no private endpoint."
  type        = set(string)

  validation {
    condition     = var.private_endpoint != null || length(var.allowed_cidrs) > 0
    error_message = "A cluster without private endpoint (Africa's is on Azure) needs allowed_cidrs."
  }
}

variable "client_ca_pem" {
  description = "Certificates of the CA that signs the stores' clients."
  type        = string
}

variable "persist_subject" {
  description = "Subject of the client certificate of functions/persist."
  type        = string
}

variable "key_rotation_role_arn" {
  description = "IAM role that rewraps data keys, or null."
  type        = string
}

variable "alert_email" {
  description = "Where alerts go."
  type        = string
}
