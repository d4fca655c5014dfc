"""The YAML catalogue of cases: data, shipped as a package so that wheels and editable installs both find it."""
