atlas_org_id  = "0123456789abcdef01234567"
alert_email   = "operations@example.org"
allowed_cidrs = ["198.51.100.7/32"]

# Certificates only, never a key.
client_ca_pem = <<-EOT
  -----BEGIN CERTIFICATE-----
  …
  -----END CERTIFICATE-----
EOT

private_endpoint = {
  vpc_id             = "vpc-0123456789abcdef0"
  subnet_ids         = ["subnet-0123456789abcdef0"]
  security_group_ids = ["sg-0123456789abcdef0"]
}
