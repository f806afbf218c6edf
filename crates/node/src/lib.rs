//! What both agents share: the node's identity, evidence and answers
