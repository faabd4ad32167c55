/** Permits for events: taken in the order of asking, kept where nobody asks yet. */
export class Steps {
  readonly #waiting: (() => void)[] = [];
  #allowed = 0;

  /** A waiter whose client leaves gives its place up. */
  async take(signal: AbortSignal): Promise<void> {
    if (this.#allowed > 0) {
      this.#allowed -= 1;
      return;
    }
    await new Promise<void>((resolve) => {
      this.#waiting.push(resolve);
      signal.addEventListener("abort", () => this.#giveUp(resolve), { once: true });
    });
  }

  #giveUp(waiter: () => void): void {
    const index = this.#waiting.indexOf(waiter);
    if (index >= 0) this.#waiting.splice(index, 1);
  }

  allow(events: number): void {
    for (let left = events; left > 0; left--) {
      const waiter = this.#waiting.shift();
      if (waiter === undefined) this.#allowed += 1;
      else waiter();
    }
  }
}
