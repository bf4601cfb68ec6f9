variable "atlas_org_id" {
  description = "Atlas organisation that owns the projects; 24 hexadecimal digits."
  type        = string

  validation {
    condition     = can(regex("^[0-9a-f]{24}$", var.atlas_org_id))
    error_message = "An Atlas organisation's id has 24 hexadecimal digits."
  }
}

variable "project_name" {
  description = "Name of the Atlas projects; each continent's has the continent appended."
  type        = string
  default     = "LoveCurrencyFederation"

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,48}$", var.project_name))
    error_message = "A project's name has at most 48 letters, digits, hyphens and underscores."
  }
}

variable "stack_region" {
  description = "AWS region of the functions (template.yaml): their VPC and parameters are there."
  type        = string
  default     = "us-east-1"

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.stack_region))
    error_message = "An AWS region looks like us-east-1."
  }
}

variable "instance_size" {
  description = "Atlas tier of every cluster that instance_sizes doesn't name."
  type        = string
  default     = "M10"

  validation {
    condition     = contains(["M10", "M20", "M30", "M40", "M50", "M60", "M80"], var.instance_size)
    error_message = "Point-in-time restore, auditing and own keys need a dedicated tier: M10 to M80."
  }
}

variable "instance_sizes" {
  description = "Continent to Atlas tier, where it differs from instance_size."
  type        = map(string)
  default     = {}

  validation {
    condition = alltrue([
      for size in values(var.instance_sizes) :
      contains(["M10", "M20", "M30", "M40", "M50", "M60", "M80"], size)
    ])
    error_message = "Point-in-time restore, auditing and own keys need a dedicated tier: M10 to M80."
  }

  validation {
    condition     = length(setsubtract(keys(var.instance_sizes), keys(local.continents))) == 0
    error_message = "instance_sizes names a continent that is none of the seven."
  }
}

variable "mongo_db_major_version" {
  description = "MongoDB's major version of every cluster."
  type        = string
  default     = "8.0"

  validation {
    condition     = can(regex("^([89]|[1-9][0-9])\\.0$", var.mongo_db_major_version))
    error_message = "A major version from 8.0 on."
  }
}

variable "restore_window_days" {
  description = "How many days back a cluster can be restored to any second."
  type        = number
  default     = 7

  validation {
    condition     = var.restore_window_days >= 2 && var.restore_window_days <= 35
    error_message = "Between 2 and 35 days."
  }
}

variable "private_endpoint" {
  description = "The functions' VPC, for private endpoints to the clusters on AWS; null: none."
  type = object({
    vpc_id             = string
    subnet_ids         = list(string)
    security_group_ids = list(string)
  })
  default = null
}

variable "allowed_cidrs" {
  description = "Outgoing addresses of the functions' NAT, for clusters without private endpoint."
  type        = set(string)
  default     = []

  # A whole network, or the whole Internet, is never let in: only NAT addresses.
  validation {
    condition = alltrue([
      for cidr in var.allowed_cidrs :
      can(cidrnetmask(cidr)) && tonumber(try(split("/", cidr)[1], 0)) >= 24
    ])
    error_message = "Each one is an IPv4 block of at most 256 addresses, such as 198.51.100.7/32."
  }

  validation {
    condition     = var.private_endpoint != null || length(var.allowed_cidrs) > 0
    error_message = "Without private_endpoint nobody could reach a cluster: give allowed_cidrs."
  }
}

variable "client_ca_pem" {
  description = "Certificates of the CA that signs the stores' clients; PEM, no key."
  type        = string

  validation {
    condition = (
      startswith(trimspace(var.client_ca_pem), "-----BEGIN CERTIFICATE-----")
      && !strcontains(var.client_ca_pem, "PRIVATE")
    )
    error_message = "PEM certificates only: a CA's key has no place in Terraform."
  }
}

variable "persist_subject" {
  description = "Subject (RFC 2253) of the client certificate of functions/persist."
  type        = string
  default     = "CN=persist,O=Love Currency Federation"

  validation {
    condition     = can(regex("^CN=[^,]+(,[A-Z]+=[^,]+)*$", var.persist_subject))
    error_message = "A distinguished name that begins with CN=."
  }
}

variable "key_rotation_role_arn" {
  description = "IAM role that rewraps data keys (lovectl keys rotate); null: no such user."
  type        = string
  default     = null

  validation {
    condition = (
      var.key_rotation_role_arn == null
      || can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:role/.+$", var.key_rotation_role_arn))
    )
    error_message = "The ARN of an IAM role."
  }
}

variable "alert_email" {
  description = "Where alerts go."
  type        = string

  validation {
    condition     = can(regex("^[^@ ]+@[^@ ]+$", var.alert_email))
    error_message = "An e-mail address."
  }
}

variable "parameter_key_id" {
  description = "KMS key of the parameters; another than Parameter Store's own needs kms:Decrypt for persist."
  type        = string
  default     = "alias/aws/ssm"

  validation {
    condition     = can(regex("^(alias/|arn:|[0-9a-f]{8}-)", var.parameter_key_id))
    error_message = "A KMS key's id, ARN or alias."
  }
}
