"""The loop against a bare PyTorch loop on the same batches, in fp32."""

import json

import pytest
import torch

from headrace.config import load_run_config
from headrace.stream.batching import BatchPlan
from headrace.stream.feistel import derive_key
from headrace.training.callbacks import Callbacks
from headrace.training.checkpoints import Checkpoints
from headrace.training.data import BatchMaker, encode_data, open_data, token_lengths
from headrace.training.engine import open_engine
from headrace.training.loop import BranchTrainer
from headrace.training.model import build_model
from headrace.training.param_groups import groups_of_branch
from headrace.training.precision import choose_precision
from headrace.training.schedules import learning_rate_factor
from headrace.training.signals import StopFlag
from headrace.training.stages import expand_stages

STEPS = 50


@pytest.fixture(scope="module")
def data_and_config(small_corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("parity")
    path = folder / "run.json"
    path.write_text(json.dumps(small_corpus.config(folder / "run")))
    config = load_run_config(path)
    return encode_data(open_data(config), config), config


def make_parts(data, config, accumulation):
    branch = expand_stages(config)[0]
    plan = BatchPlan(
        data.opened.plan(branch, config.headrace.seed, data.train),
        token_lengths(data.train[language] for language in branch.languages),
        batch_size=16,
    )
    batches = BatchMaker(
        data, plan, branch,
        rank=0, world_size=1, micro_batch_size=16 // accumulation, accumulation=accumulation,
    )  # fmt: skip
    return branch, plan, batches


def fresh_model(data, config):
    opened = data.opened
    return build_model(config.headrace.model, opened.task, opened.tokenizer, seed=11)


def bare_loop(data, config):
    """What anybody would write: no DeepSpeed, no accumulation, the mean loss of the batch."""
    branch, _, batches = make_parts(data, config, 1)
    model = fresh_model(data, config).train()
    exempt = [p for n, p in model.named_parameters() if "bias" in n or "norm" in n.lower()]
    others = [p for n, p in model.named_parameters() if "bias" not in n and "norm" not in n.lower()]
    optimizer = torch.optim.AdamW(
        [{"params": others, "weight_decay": 0.01}, {"params": exempt, "weight_decay": 0.0}]
    )
    losses = []
    for step in range(STEPS):
        torch.manual_seed(derive_key("dropout", config.headrace.seed, branch.title, step, 0))
        (batch,) = batches.make(step).micro_batches
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * learning_rate_factor(branch.schedule, step, STEPS)
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def our_loop(data, config, world, accumulation):
    branch, plan, batches = make_parts(data, config, accumulation)
    sections = {**config.deepspeed, "train_micro_batch_size_per_gpu": 16 // accumulation}
    config = type(config)(sections, config.headrace, config.name, config.output)
    precision = choose_precision("config", sections, world.device)
    losses = []
    model = fresh_model(data, config)
    groups = groups_of_branch(model, config, branch)
    with open_engine(model, groups, config, world, precision) as engine:
        trainer = BranchTrainer(
            engine=engine, groups=groups, branch=branch, task=data.opened.task, world=world,
            seed=config.headrace.seed, plan=plan, batches=batches,
            total_steps=STEPS, checkpoints=Checkpoints(config.output, world),
            log_every=1,
            callbacks=Callbacks([]), stop_flag=StopFlag(),
        )  # fmt: skip
        for step in range(STEPS):
            groups.set_learning_rates(engine.optimizer, step, STEPS)
            batch = batches.make(step)
            losses.append(trainer.train_step(batch)[0].loss)
    return losses


def test_fifty_steps_with_dropout_equal_a_bare_loop(data_and_config, world):
    data, config = data_and_config
    ours, bare = our_loop(data, config, world, 1), bare_loop(data, config)
    assert len(set(bare)) == STEPS
    assert ours == pytest.approx(bare, abs=1e-6)


def test_accumulation_does_not_change_the_loss_of_uneven_micro_batches(data_and_config, world):
    """Micro-batches have different numbers of labelled tokens; the mean is over all of them."""
    data, config = data_and_config
    network = {**config.headrace.model.config, "hidden_dropout_prob": 0.0,
               "attention_probs_dropout_prob": 0.0}  # fmt: skip
    model = config.headrace.model.model_copy(update={"config": network})
    section = config.headrace.model_copy(update={"model": model})
    config = type(config)(config.deepspeed, section, config.name, config.output)
    whole, parts = our_loop(data, config, world, 1), our_loop(data, config, world, 4)
    assert parts == pytest.approx(whole, abs=2e-4)
    assert parts[:10] == pytest.approx(whole[:10], abs=1e-6)


def test_a_rank_alone_has_the_gradients_of_an_exchange(data_and_config, world):
    """It skips the exchange of DeepSpeed, after which what no loss has reached has zeros."""
    data, config = data_and_config
    branch, _, _ = make_parts(data, config, 1)
    precision = choose_precision("config", config.deepspeed, world.device)
    model = fresh_model(data, config)
    with open_engine(
        model, groups_of_branch(model, config, branch), config, world, precision
    ) as engine:
        engine.backward((model.get_input_embeddings().weight ** 2).sum())
        alone = [parameter.grad.clone() for parameter in model.parameters()]
        for parameter in model.parameters():
            if not parameter.grad.any():
                parameter.grad = None
        type(engine).allreduce_gradients(engine)
        exchanged = [parameter.grad for parameter in model.parameters()]
    assert sum(bool(gradient.any()) for gradient in alone) == 1
    assert all(map(torch.equal, alone, exchanged))


def test_a_step_without_samples_changes_nothing(data_and_config, world):
    """All its samples are quarantined.  AdamW would move weights by momentum and weight decay."""
    data, config = data_and_config
    branch, plan, _ = make_parts(data, config, 1)
    everything = frozenset(
        (number, shard)
        for number, language in enumerate(branch.languages)
        for shard in range(len(data.train[language].shards))
    )
    lengths = token_lengths(data.train[language] for language in branch.languages)
    empty = BatchPlan(plan.plan, lengths, batch_size=16, quarantined=everything)
    options = {"rank": 0, "world_size": 1, "micro_batch_size": 16, "accumulation": 1}
    precision = choose_precision("config", config.deepspeed, world.device)
    model = fresh_model(data, config)
    groups = groups_of_branch(model, config, branch)
    with open_engine(model, groups, config, world, precision) as engine:
        trainer = BranchTrainer(
            engine=engine, groups=groups, branch=branch, task=data.opened.task, world=world,
            seed=config.headrace.seed, plan=plan, batches=None,
            total_steps=STEPS, checkpoints=Checkpoints(config.output, world),
            log_every=1,
            callbacks=Callbacks([]), stop_flag=StopFlag(),
        )  # fmt: skip

        def weights():
            return torch.cat([value.detach().flatten() for value in engine.module.parameters()])

        groups.set_learning_rates(engine.optimizer, STEPS // 2, STEPS)
        before = weights()
        full = BatchMaker(data, plan, branch, **options).make(0)
        assert trainer.train_step(full)[0].loss > 0
        after = weights()
        assert not torch.equal(before, after)
        batch = BatchMaker(data, empty, branch, **options).make(1)
        assert trainer.train_step(batch)[0].loss == 0
        assert torch.equal(weights(), after)
