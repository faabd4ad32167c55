/**
 * Owns virtual time: what happens next, one event after the other, and everything that it set off before the next one.
 * Invariant: the order of events depends on nothing but when and in which order they were asked for.
 */
interface Event {
  atMs: number;
  order: number;
  run: (() => void | Promise<void>) | undefined;
}

/** What goes on in real time, while virtual time stands still. */
export interface Outside {
  readonly isQuiet: boolean;
  settled(): Promise<void>;
}

/** All promises that can go on do so before the next tick, which costs no turn of the event loop. */
function everythingRan(): Promise<void> {
  return new Promise((resolve) => process.nextTick(resolve));
}

export class Timeline {
  #nowMs = 0;
  #count = 0;
  readonly #outside: Outside;
  /** A binary heap: the next event is first. */
  readonly #heap: Event[] = [];

  constructor(outside: Outside) {
    this.#outside = outside;
  }

  get nowMs(): number {
    return this.#nowMs;
  }
  /** When the next event is; `Infinity`: there is none. */
  get nextAtMs(): number {
    return this.#heap[0]?.atMs ?? Infinity;
  }

  /** @returns cancels it. */
  after(waitMs: number, run: () => void | Promise<void>): () => void {
    const event: Event = { atMs: this.#nowMs + Math.max(0, waitMs), order: (this.#count += 1), run };
    this.#push(event);
    return () => (event.run = undefined);
  }

  /** Carries out the next event and everything it sets off at its instant. False: there is none. */
  async step(): Promise<boolean> {
    let event = this.#pop();
    while (event !== undefined && event.run === undefined) event = this.#pop();
    if (event?.run === undefined) return false;
    this.#nowMs = event.atMs;
    await event.run();
    await everythingRan();
    // What was answered may have set off more.
    while (!this.#outside.isQuiet) {
      await this.#outside.settled();
      await everythingRan();
    }
    return true;
  }

  #push(event: Event): void {
    const heap = this.#heap;
    let index = heap.push(event) - 1;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      const above = heap[parent];
      if (above === undefined || !isBefore(event, above)) break;
      heap[index] = above;
      index = parent;
    }
    heap[index] = event;
  }

  #pop(): Event | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (first === undefined || last === undefined || heap.length === 0) return first;
    let index = 0;
    for (;;) {
      const left = heap[index * 2 + 1];
      const right = heap[index * 2 + 2];
      const isRight = left !== undefined && right !== undefined && isBefore(right, left);
      const child = isRight ? right : left;
      if (child === undefined || !isBefore(child, last)) break;
      heap[index] = child;
      index = index * 2 + (isRight ? 2 : 1);
    }
    heap[index] = last;
    return first;
  }
}

function isBefore(a: Event, b: Event): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}
