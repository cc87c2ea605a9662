//! Long computations.

use super::same;
use crate::case::Case;

/// All of them.
pub(super) fn all() -> Vec<Case> {
    vec![
        same(
            "xz",
            "head -c 2000000 /dev/urandom | base64 >text",
            &["xz", "-T2", "-1", "--block-size=500000", "-c", "text"],
        ),
        // Each frame is made from those before it.
        same(
            "ffmpeg",
            "export makes='ffmpeg -nostdin -v error -f lavfi -i testsrc2=s=480x360:r=25:d=20 -c:v mpeg4 -threads 2 -q:v 3 -f m4v -'",
            &["bash", "-c", "exec $makes"],
        ),
    ]
}
