-- Whose list it is: the certificate of the authority whose lists count, DER in hex; empty for a list of before.
ALTER TABLE revocation_crl ADD COLUMN authority TEXT NOT NULL DEFAULT '';
