"""One layer with the best MLP neurons of all layers of the window."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, final

import torch
from pydantic import Field
from torch import Tensor

from swm.fitting.products import fit_products
from swm.fitting.refitting import by_length, left_out_of
from swm.fitting.ridge import Sums
from swm.fitting.working_bytes import fit_bytes, sums_bytes, widest
from swm.interfaces.merger import LayerMerger, LayerWindow
from swm.interfaces.work import Work
from swm.mergers.down_projection import BIAS, DOWN, ROLE, down_projection_fit
from swm.mergers.least_squares import OUT, LeastSquares
from swm.mergers.neurons import Neurons, check_one_kind, read_as_before
from swm.model.state import State
from swm.model.view import ModelView

# A neuron's share of the output is told well by far fewer tokens than a fit takes.
TOKENS_TO_RANK = 12288
RIDGES = (0.01, 0.1, 1.0)
# Of the pool: sums over two parts of the text, a factor and what is made of it.
POOL_MATRICES = 5


@final
@dataclass(frozen=True)
class BestNeurons(LayerMerger):
    """The bottom layer, its attention refitted, its MLP made of those of the window's neurons that matter together.

    The attention's output projection is refitted together with the MLP's, as `least-squares` does. All layers' MLPs
    then read what the bottom layer's reads, through the linear map that is nearest to what they read in the original
    model, folded into their weights. `candidates` times as many neurons as a layer has, those with the largest output
    `E[c a^2] ||w||^2`, are fitted together to the window's end; w is what a neuron writes, a its activation,
    `c = 1/||l||^2` where `relative`, else 1. Round by round the `step` part of them stays: those whose removal would
    cost the fit most, `||b_j||^2 / (H^-1)_jj` (Hassibi and Stork 1992, Optimal Brain Surgeon), b being the fitted
    output weights and H `sum c a'a` with the ridge; the others' part is taken over by a new fit.

    Ridge regression toward w. Without `ridge`, the best of 0.01, 0.1 and 1 is taken on every `fold`-th sample, which is
    left out for that. The first `skip_first` tokens of a sample do not count.
    """

    name: ClassVar[str] = "best-neurons"
    needs_activations: ClassVar[bool] = True

    candidates: Annotated[int, Field(ge=1)] = 3
    step: Annotated[float, Field(gt=0, lt=1)] = 0.8
    ridge: Annotated[float, Field(gt=0)] | None = None
    relative: bool = True
    skip_first: Annotated[int, Field(ge=0)] = 0
    fold: Annotated[int, Field(ge=2)] = 5

    def working_bytes(self, model: ModelView, tokens: int) -> int:
        channels, hidden = widest(model, ROLE), model.config.hidden_size
        joint = fit_bytes(channels + widest(model, OUT), hidden, ridge=None, tokens=tokens)
        return max(joint, sums_bytes(self.candidates * channels, hidden, POOL_MATRICES))

    def lighter(self, model: ModelView, tokens: int) -> Mapping[str, int]:
        fewer = {n: replace(self, candidates=n) for n in range(2, self.candidates)}
        return {f"candidates: {n}": one.working_bytes(model, tokens) for n, one in fewer.items()}

    def work(self, model: ModelView, tokens: int) -> Work:
        channels, hidden = widest(model, ROLE), model.config.hidden_size
        joint = fit_products(tokens, channels + widest(model, OUT), hidden, searches_ridge=True)
        pool = fit_products(tokens, self.candidates * channels, hidden, searches_ridge=False)
        return Work(passes=(6 + self.candidates) / len(model.layers), products=joint + pool)

    @torch.no_grad()
    def merge(self, window: LayerWindow) -> State:
        fit = down_projection_fit(window)
        check_one_kind(window)
        start = LeastSquares(None, self.relative, self.skip_first, self.fold, (OUT, ROLE)).attention(window, fit)
        layers = read_as_before(window, start, fit.projection.transposed, self.fold)
        neurons = Neurons.of(start, layers, fit.projection.transposed)
        tokens = _FitTokens(window, start, self)
        if len(window.states) > self.candidates:
            neurons = neurons.chosen(self._ranked(neurons, tokens))
        training, left_out = tokens.sums(neurons)
        ridge = self.ridge
        if ridge is None:
            errors = {}
            for tried in RIDGES:
                kept, solution = self._narrowed(training, neurons, tried)
                errors[tried] = Sums(left_out.xx[kept][:, kept], left_out.xy[kept], left_out.yy).error(solution)
            ridge = min(RIDGES, key=lambda tried: errors[tried])
        training += left_out
        del left_out
        kept, solution = self._narrowed(training, neurons, ridge)
        return neurons.layer(kept, solution)

    def _ranked(self, neurons: Neurons, tokens: _FitTokens) -> Tensor:
        """The neurons with the largest output, in the order of their layers."""
        energy = torch.zeros(neurons.count, dtype=torch.float64, device=neurons.writes.device)
        seen = 0
        for inputs, _, _ in tokens.batches(neurons):
            energy += inputs[:, : neurons.count].square().sum(0)
            seen += len(inputs)
            if seen >= TOKENS_TO_RANK:
                break
        output = energy * neurons.writes.double().square().sum(1)
        return output.topk(self.candidates * neurons.wanted).indices.sort().values

    def _narrowed(self, sums: Sums, neurons: Neurons, ridge: float) -> tuple[Tensor, Tensor]:
        """The rows of the sums that stay, and their fit `[rows, hidden]`; a bias is the last row and always stays."""
        prior = neurons.prior()
        always = torch.arange(neurons.count, len(prior), device=prior.device)
        kept = torch.arange(len(prior), device=prior.device)
        while True:
            shifted = sums.xx[kept][:, kept]
            least = ridge * shifted.diagonal().mean().clamp_min(torch.finfo(torch.float64).tiny)
            shifted.diagonal().add_(least)
            factor = torch.linalg.cholesky(shifted)
            del shifted
            fitted = torch.cholesky_solve(sums.xy[kept] + least * prior[kept], factor)
            count = len(kept) - len(always)
            if count == neurons.wanted:
                return kept, fitted
            cost = fitted.square().sum(1) / torch.cholesky_inverse(factor).diagonal()
            stay = max(neurons.wanted, int(count * self.step))
            kept = torch.cat([kept[cost[:count].topk(stay).indices.sort().values], always])


class _FitTokens:
    """What neurons give and what is missing, token by token, as the fit counts it."""

    def __init__(self, window: LayerWindow, start: State, settings: BestNeurons) -> None:
        self.activations, self.bias = window.required_activations(), BIAS in start
        silent: State = {k: torch.zeros_like(v) if k in (DOWN, BIAS) else v for k, v in start.items()}
        wanted, self.relative = self.activations.leaving(), settings.relative
        self.wanted, self.given = wanted, self.activations.run(silent)
        self.counted = torch.ones(wanted.shape[:2], dtype=torch.bool, device=wanted.device)
        self.counted[:, : settings.skip_first] = False
        self.left_out = left_out_of(len(wanted), wanted.shape[1], settings.fold).to(wanted.device)

    def batch(self, batch: int, neurons: Neurons) -> tuple[Tensor, Tensor, Tensor]:
        """Activations `[tokens, neurons]`, and 1 for a bias; what is missing `[tokens, hidden]`; which are left out."""
        rows = self.activations.rows[batch]
        channels = [self.activations.inputs_of(batch, ROLE, state) for state in neurons.states()]
        if self.bias:
            channels.append(torch.ones_like(channels[0][..., :1]))
        wanted, counted = self.wanted[rows], self.counted[rows]
        scale = by_length(wanted) if self.relative else torch.ones_like(wanted[..., :1])
        inputs = (torch.cat(channels, -1).float() * scale.float())[counted]
        return inputs, ((wanted - self.given[rows]) * scale)[counted].float(), self.left_out[rows][counted]

    def sums(self, neurons: Neurons) -> tuple[Sums, Sums]:
        """Over the tokens to fit to, and over those that are left out."""
        size = len(neurons.prior())
        both = tuple(Sums.zeros(size, self.wanted.shape[-1], self.wanted.device) for _ in range(2))
        for inputs, missing, left_out in self.batches(neurons):
            for sums, chosen in zip(both, (~left_out, left_out), strict=True):
                sums.add(inputs[chosen], missing[chosen])
        return both[0], both[1]

    def batches(self, neurons: Neurons) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """As `batch`, of all batches."""
        return (self.batch(batch, neurons) for batch in range(len(self.activations.rows)))
