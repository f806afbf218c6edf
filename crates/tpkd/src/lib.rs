//! Three Part Key Derivation: split, combine, derive, wrap and seal
