//! Opens sealed cloud-init user-data
