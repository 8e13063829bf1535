"""Which fields of a config a task takes, and which are refused."""

import pytest

from jaxanatomy import config_files
from jaxanatomy.data.depth_tasks import Assignments
from jaxanatomy.errors import InputError
from jaxanatomy.train.hop_plan import task_of

VARIANTS = ("", "depths", "all")


def config_of(variant="", **task):
    config = config_files.shipped("khop_growth", variant)
    config.task.update({"name": "assignments", "hops": 8, **task})
    return config


@pytest.mark.parametrize("variant", VARIANTS)
def test_assignments_take_a_shipped_config_as_it_is(variant):
    assert task_of(config_of(variant, names=21)) == Assignments(names=21, hops=8)


@pytest.mark.parametrize("fields", [{"alphabet": 9}, {"seq_len": 12}, {"seq_len": 39}])
def test_what_assignments_work_out_cannot_be_set(fields):
    ((name, value),) = fields.items()
    message = f"got {name}={value}, worked out from names and values; leave it out"
    with pytest.raises(InputError, match=message):
        task_of(config_of(**fields))
