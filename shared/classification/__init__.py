"""Why a delivery failed: SMTP replies, enhanced codes and provider words mapped to one list."""
