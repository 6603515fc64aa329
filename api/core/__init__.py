"""What every resource of the API uses: authentication, fields, errors, pagination."""
