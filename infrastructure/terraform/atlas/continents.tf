# The seven continents, as in layers/federation/federation/regions.py: names, clusters, regions
# (the preferred one first, by Atlas' names) and the region of the KMS key.
locals {
  continents = {
    Asia = {
      cluster    = "mongo-asia"
      provider   = "AWS"
      regions    = ["AP_NORTHEAST_1", "AP_SOUTHEAST_1"]
      key_region = "ap-northeast-1"
    }
    Europe = {
      cluster    = "mongo-europe"
      provider   = "AWS"
      regions    = ["EU_CENTRAL_1", "EU_WEST_2"]
      key_region = "eu-central-1"
    }
    NorthAmerica = {
      cluster    = "mongo-na"
      provider   = "AWS"
      regions    = ["US_EAST_1", "US_WEST_1"]
      key_region = "us-east-1"
    }
    SouthAmerica = {
      cluster    = "mongo-sa"
      provider   = "AWS"
      regions    = ["SA_EAST_1"]
      key_region = "sa-east-1"
    }
    # Johannesburg. Atlas takes an AWS key for a cluster on Azure.
    Africa = {
      cluster    = "mongo-africa"
      provider   = "AZURE"
      regions    = ["SOUTH_AFRICA_NORTH"]
      key_region = "af-south-1"
    }
    Oceania = {
      cluster    = "mongo-oceania"
      provider   = "AWS"
      regions    = ["AP_SOUTHEAST_2"]
      key_region = "ap-southeast-2"
    }
    MiddleEast = {
      cluster    = "mongo-me"
      provider   = "AWS"
      regions    = ["ME_SOUTH_1", "ME_CENTRAL_1"]
      key_region = "me-south-1"
    }
  }
}
