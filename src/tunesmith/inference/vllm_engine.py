"""Continues texts on a graphics card with vLLM, which batches them whatever adapters they have.

It is asked as the engine on processors is. vLLM is given tokens and gives tokens, so that prompts,
the ends of answers and the reading of both are the same on either.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import threading
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from tunesmith.domain.answers import MOST_LOGPROBS, Chosen, Finish, Likely
from tunesmith.inference.engine import Text

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_FITTING = -1
"""Lets vLLM take as long a context as the card has room for, up to the model's own."""


@dataclass(frozen=True)
class Library:
    """What is used of vLLM, as of 0.29."""

    arguments: Callable[..., Any]
    """`AsyncEngineArgs`."""
    engine: Any
    """`AsyncLLM`."""
    sampling: Callable[..., Any]
    """`SamplingParams`."""
    news: Any
    """`RequestOutputKind.DELTA`, by which only new tokens are told."""
    adapter: Callable[..., Any]
    """`LoRARequest`."""


def library() -> Library:
    """Return the installed vLLM. Raises `ImportError`."""
    sampling = importlib.import_module("vllm.sampling_params")
    return Library(
        arguments=importlib.import_module("vllm.engine.arg_utils").AsyncEngineArgs,
        engine=importlib.import_module("vllm.v1.engine.async_llm").AsyncLLM,
        sampling=sampling.SamplingParams,
        news=sampling.RequestOutputKind.DELTA,
        adapter=importlib.import_module("vllm.lora.request").LoRARequest,
    )


@dataclass(frozen=True)
class Adapters:
    """The adapters for which there is room."""

    most: int = 16
    """How many are in memory."""
    together: int = 4
    """How many of them answer at once; texts with others wait."""
    rank: int = 64
    """The largest rank: one of vLLM's own steps."""


class VllmEngine:
    """One model on the card and the texts that it continues."""

    def __init__(self, folder: Path, *, vllm: Library, adapters: Adapters) -> None:
        """Bring the model in `folder` to the card, which takes a while.

        Raises whatever vLLM does where it cannot.
        """
        self._vllm = vllm
        self._adapters: dict[int, Any] = {}
        self._tasks: dict[Text, asyncio.Task[None]] = {}
        self._numbers = count(1)
        self._closing = False
        self._turn = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vllm", daemon=True)
        self._thread.start()
        try:
            # In the loop in which it is asked later on.
            self._client = self._do(self._started(folder, adapters))
        except BaseException:
            self._end_loop()
            raise

    @property
    def longest(self) -> int:
        """Tokens of the longest text, prompt and answer."""
        return int(self._client.model_config.max_model_len)

    @property
    def vocabulary(self) -> int:
        """How many tokens there are."""
        return int(self._client.model_config.get_vocab_size())

    @property
    def broken(self) -> bool:
        """Whether vLLM's own process has ended."""
        return bool(self._client.errored)

    def say(self, text: Text) -> None:
        """Continue `text`; see `Continuing.say`."""
        if not 0 < len(text.prompt) < self.longest:
            raise ValueError(
                f"The prompt has {len(text.prompt)} tokens; between 1 and {self.longest - 1} are "
                "taken."
            )
        with self._turn:
            if self._closing:
                raise ValueError("The model was taken out of memory.")
            # Without a tokenizer vLLM checks none of them, and one such token ends its process.
            if not 0 <= min(text.prompt) <= max(text.prompt) < self.vocabulary:
                text.listener.failed(ValueError("The prompt has a token that the model lacks."))
                return
            self._loop.call_soon_threadsafe(self._begin, text)

    def cancel(self, text: Text) -> None:
        """Leave `text` where it is; see `Continuing.cancel`."""
        text.cancelled.set()
        with self._turn:
            if not self._closing:
                self._loop.call_soon_threadsafe(self._stop, text)

    def put(self, number: int, folder: Path) -> None:
        """Let texts with the adapter `number` have that in `folder`.

        A number from 1 on means one adapter for ever. Raises whatever vLLM does where it does not
        take the adapter.
        """
        adapter = self._vllm.adapter(
            lora_name=str(number), lora_int_id=number, lora_path=str(folder)
        )
        # Were it brought along with a text instead, what is wrong with it would end all texts.
        self._do(self._client.add_lora(adapter))
        self._adapters[number] = adapter

    def take(self, number: int) -> None:
        """Take the adapter `number` out of memory, which no text has any more."""
        del self._adapters[number]
        self._do(self._client.remove_lora(number))

    def close(self) -> None:
        """End; texts that are not over are told that they failed."""
        with self._turn:
            self._closing = True
        self._do(self._ended())
        self._end_loop()

    def _do(self, asked: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(asked, self._loop).result()

    async def _started(self, folder: Path, adapters: Adapters) -> Any:
        return self._vllm.engine.from_engine_args(
            self._vllm.arguments(
                model=str(folder),
                # It neither reads nor writes words, and draws as it is asked to alone.
                skip_tokenizer_init=True,
                generation_config="vllm",
                max_model_len=_FITTING,
                max_logprobs=MOST_LOGPROBS,
                enable_lora=True,
                max_loras=adapters.together,
                max_cpu_loras=adapters.most,
                max_lora_rank=adapters.rank,
                disable_log_stats=True,
            )
        )

    async def _ended(self) -> None:
        going = list(self._tasks.items())
        for text, task in going:
            task.cancel()
            if not text.cancelled.is_set():
                text.listener.failed(RuntimeError("The model was taken out of memory."))
        await asyncio.gather(*(task for _, task in going), return_exceptions=True)
        self._client.shutdown()

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _begin(self, text: Text) -> None:
        if not text.cancelled.is_set():
            task = self._tasks[text] = self._loop.create_task(self._continue(text))
            task.add_done_callback(lambda _: self._tasks.pop(text))

    def _stop(self, text: Text) -> None:
        if text in self._tasks:
            self._tasks[text].cancel()

    async def _continue(self, text: Text) -> None:
        """Tell `text` token by token. Where this ends before vLLM does, vLLM stops."""
        made = self._client.generate(
            {"prompt_token_ids": list(text.prompt)},
            self._sampling(text),
            str(next(self._numbers)),
            lora_request=None if text.adapter is None else self._adapters[text.adapter],
        )
        try:
            async with aclosing(made) as outputs:
                async for output in outputs:
                    finish = _told(text, output.outputs[0])
                    if finish is not None:
                        text.listener.ended(finish)
                        return
            text.listener.failed(RuntimeError("vLLM gave the text up."))
        except Exception as error:  # noqa: BLE001  the text's edge: whoever asked is told
            _log.exception("A text could not be continued")
            text.listener.failed(error)

    def _sampling(self, text: Text) -> Any:
        wanted = text.sampling
        room = self.longest - len(text.prompt)
        return self._vllm.sampling(
            max_tokens=min(wanted.max_tokens or room, room),
            temperature=wanted.temperature,
            top_p=wanted.top_p,
            seed=wanted.seed,
            frequency_penalty=wanted.frequency_penalty,
            presence_penalty=wanted.presence_penalty,
            logit_bias=dict(wanted.logit_bias) or None,
            logprobs=wanted.logprobs,
            # The ends that training taught, and no others.
            ignore_eos=True,
            stop_token_ids=sorted(text.ends),
            detokenize=False,
            output_kind=self._vllm.news,
        )


def _told(text: Text, news: Any) -> Finish | None:
    """Tell the new tokens of `text`, and return why it ends with them, where it does."""
    for place, token in enumerate(news.token_ids):
        # vLLM tells the token that ends a text, too.
        if token in text.ends:
            return Finish.STOP
        if not text.listener.said(_chosen(token, news, place=place, text=text)):
            return Finish.STOP
    match news.finish_reason:
        case "length":
            return Finish.LENGTH
        case "stop":
            return Finish.STOP
        case _:
            return None


def _chosen(token: int, news: Any, *, place: int, text: Text) -> Chosen:
    wanted = text.sampling.logprobs
    if wanted is None:
        return Chosen(token=token)
    # The chosen token is among them, also where it is none of the likeliest.
    found = {at: float(each.logprob) for at, each in news.logprobs[place].items()}
    likeliest = sorted(found.items(), key=lambda each: -each[1])[:wanted]
    return Chosen(
        token=token,
        logprob=found[token],
        likeliest=tuple(Likely(token=at, logprob=value) for at, value in likeliest),
    )
