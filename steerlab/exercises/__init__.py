"""Checkers for the exercises of the notebooks: each prints one line, and none raises."""

from .building import check_control as check_control
from .building import check_dose as check_dose
from .building import check_mean_difference as check_mean_difference
from .building import check_own_answers as check_own_answers
from .building import check_probe as check_probe
from .building import check_study as check_study
from .short import check_add_at_front as check_add_at_front
from .short import check_anchored_gain as check_anchored_gain
from .short import check_broken as check_broken
from .short import check_dynamic as check_dynamic
from .short import check_effectiveness as check_effectiveness
from .short import check_fails as check_fails
from .short import check_fewer as check_fewer
from .short import check_gentle as check_gentle
from .short import check_other_signs as check_other_signs
from .short import check_own_pair as check_own_pair
from .short import check_passes as check_passes
from .short import check_read as check_read
from .short import check_requests as check_requests
from .short import check_silence as check_silence
from .short import check_steered_texts as check_steered_texts
from .short import check_topic_shift as check_topic_shift
