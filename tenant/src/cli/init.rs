//! The options of `bootkeep init`.

use std::path::PathBuf;

use clap::Args;

/// `bootkeep init`.
#[derive(Debug, Args)]
pub struct Init {
    /// The new home [default: the home folder].
    pub directory: Option<PathBuf>,
    /// Add what an owner made by an earlier release lacks: keys for policies and revocations, and their lines in the
    /// configuration files. What is there stays as it is.
    #[arg(long)]
    pub add: bool,
    /// Name or address under which the services are reached; repeat for more. localhost is always among them.
    #[arg(long, value_name = "NAME")]
    pub host: Vec<String>,
    /// Which of them nodes dial; repeat for more [default: the first --host].
    #[arg(long, value_name = "NAME")]
    pub node_host: Vec<String>,
    /// Where this program and the verifier reach the services.
    #[arg(long, value_name = "NAME", default_value = "127.0.0.1")]
    pub tenant_host: String,
    /// Address the services listen on.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0")]
    pub listen: std::net::IpAddr,
    /// Port of the registrar.
    #[arg(long, value_name = "PORT", default_value_t = 8890)]
    pub registrar_port: u16,
    /// Port of the verifier.
    #[arg(long, value_name = "PORT", default_value_t = 8891)]
    pub verifier_port: u16,
    /// Port of the CA.
    #[arg(long, value_name = "PORT", default_value_t = 8892)]
    pub ca_port: u16,
    /// Port of the revocation list (plain HTTP).
    #[arg(long, value_name = "PORT", default_value_t = 8893)]
    pub crl_port: u16,
    /// Folder with certificates of TPM makers, copied into the new home.
    #[arg(long, value_name = "DIR")]
    pub ek_roots: Option<PathBuf>,
    /// Name of the nodes' LUKS volume, as in rd.luks.name=UUID=NAME.
    #[arg(long, value_name = "NAME", default_value = "cryptroot")]
    pub volume: String,
}
