//! Parses and verifies TPM quotes, TCG event logs and IMA measurement lists
