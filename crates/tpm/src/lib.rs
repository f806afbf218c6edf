//! The TPM 2.0 as Bootkeep needs it, on tss-esapi
