/**
 * Owns handing an answer's bytes on as they come, with a meter reading along. Does not own what the end of a call costs (engine/).
 * Invariants: a chunk is handed on as it is, never copied; nothing is read that nobody asked for; the end is told once, before the reader
 * learns of it; an answer that nobody reads to its end, or holds any more, is given up.
 */

export interface AnswerSource {
  reader: ReadableStreamDefaultReader<Uint8Array>;
  /** Reads along. @returns what is handed on; may be empty: it comes with later bytes, or not at all. */
  push(chunk: Uint8Array): Uint8Array;
  /** What is still to be handed on when the answer ends. */
  rest(): Uint8Array | undefined;
  /** The answer came whole, or broke off. Its reader waits for this. */
  end(isWhole: boolean): Promise<void>;
  /** The caller wants no more of it. */
  leave(reason: unknown): Promise<void>;
}

export interface AnswerStream {
  readable: ReadableStream<Uint8Array>;
  /** The caller's signal fired: its reader learns that at once. */
  readonly abort: (reason: unknown) => void;
}

/** Answers of which nothing is left but what reads along with them. */
const forgotten = new FinalizationRegistry<() => void>((leave) => leave());

/** @param first chunks that came before, already pushed. */
export function answerStream(source: AnswerSource, first: readonly Uint8Array[] = []): AnswerStream {
  const { reader } = source;
  const held = [...first];
  let controllerRef: WeakRef<ReadableStreamDefaultController<Uint8Array>> | undefined;
  const readable = new ReadableStream<Uint8Array>(
    {
      start(controller) {
        // Weakly: whoever holds the signal must not hold an answer that nobody reads.
        controllerRef = new WeakRef(controller);
      },
      async pull(controller) {
        const next = held.shift();
        if (next !== undefined) return controller.enqueue(next);
        const read = await readNext(source);
        if (read.outcome === "broken") return controller.error(read.error);
        if (read.chunk !== undefined && read.chunk.length > 0) controller.enqueue(read.chunk);
        if (read.outcome === "end") controller.close();
      },
      cancel(reason) {
        forgotten.unregister(reader);
        return source.leave(reason);
      },
    },
    { highWaterMark: 0 },
  );

  forgotten.register(readable, () => void source.leave(new Error("nobody holds the answer any more")), reader);
  return {
    readable,
    abort(reason) {
      forgotten.unregister(reader);
      void source.leave(reason);
      controllerRef?.deref()?.error(reason);
    },
  };
}

type Read =
  | { outcome: "chunk"; chunk: Uint8Array }
  | { outcome: "end"; chunk: Uint8Array | undefined }
  | { outcome: "broken"; error: unknown };

async function readNext(source: AnswerSource): Promise<Read> {
  try {
    for (;;) {
      const { done, value } = await source.reader.read();
      if (done) break;
      const chunk = source.push(value);
      if (chunk.length > 0) return { outcome: "chunk", chunk };
    }
  } catch (error) {
    await source.end(false);
    return { outcome: "broken", error };
  }
  forgotten.unregister(source.reader);
  await source.end(true);
  return { outcome: "end", chunk: source.rest() };
}
