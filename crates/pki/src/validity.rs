//! Validity periods.

use rcgen::CertificateParams;
use time::{Duration, OffsetDateTime};

/// How long before its making a certificate is already valid: clocks of freshly started machines lag.
const BACKDATED: Duration = Duration::hours(1);

/// Makes the certificate valid from an hour ago for `days`.
pub(crate) fn set(params: &mut CertificateParams, days: u32) {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - BACKDATED;
    params.not_after = now + Duration::days(days.into());
}
