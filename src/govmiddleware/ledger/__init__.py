"""The ports on Redis or Valkey: nobody else knows them."""
