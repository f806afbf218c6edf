//! Boot and runtime policies and the appraisal of evidence against them
