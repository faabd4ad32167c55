/**
 * Owns a map that forgets: what was put longest ago goes first, once there is too much or it is too old.
 * Invariant: neither putting nor forgetting costs more the more is kept. Beginning at the front of a map each time would: it steps over
 * everything that was taken out since the map last grew, thousands where thousands are kept.
 */

export interface IdleMapOptions {
  sizeMax: number;
  /** What was put longer ago is forgotten, in milliseconds. @defaultValue nothing is forgotten for its age */
  idleMsMax?: number;
}

interface Entry<V> {
  key: string;
  value: V;
  atMs: number;
}

export class IdleMap<V> {
  readonly #sizeMax: number;
  readonly #idleMsMax: number;
  /** Insertion order is the order of putting. */
  readonly #entries = new Map<string, Entry<V>>();
  /** Stands behind the oldest: what it passed before is gone, or was put again. */
  #walk = this.#entries.values();
  #oldest: Entry<V> | undefined;

  constructor({ sizeMax, idleMsMax = Infinity }: IdleMapOptions) {
    this.#sizeMax = sizeMax;
    this.#idleMsMax = idleMsMax;
  }

  get(key: string): V | undefined {
    return this.#entries.get(key)?.value;
  }

  /** Puts a value, as the newest. @param atMs by the clock that its age is told by, if that matters */
  put(key: string, value: V, atMs = 0): void {
    this.#entries.delete(key);
    this.#entries.set(key, { key, value, atMs });
  }

  delete(key: string): void {
    this.#entries.delete(key);
  }

  /** Forgets what is too much or too old at an instant. */
  forget(nowMs = 0): void {
    for (let oldest = this.#findOldest(); oldest !== undefined; oldest = this.#findOldest()) {
      if (this.#entries.size <= this.#sizeMax && nowMs - oldest.atMs <= this.#idleMsMax) return;
      this.#entries.delete(oldest.key);
    }
  }

  #findOldest(): Entry<V> | undefined {
    while (this.#entries.size > 0) {
      if (this.#oldest !== undefined && this.#entries.get(this.#oldest.key) === this.#oldest) return this.#oldest;
      const { done, value } = this.#walk.next();
      // A walk that came to its end stays there, whatever is put afterwards.
      if (done === true) this.#walk = this.#entries.values();
      this.#oldest = value;
    }
    return undefined;
  }
}
