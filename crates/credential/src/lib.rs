//! TPM2_MakeCredential in software: the challenge side of credential activation
