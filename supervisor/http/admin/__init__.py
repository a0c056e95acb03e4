"""The operator's API below `/admin/v1`. Who may use it is decided in `access.gate`, not here."""
