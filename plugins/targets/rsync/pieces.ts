/** How a file that is larger than one piece is kept: `X` as the folder `X.pieces`, with pieces named
 *  <generation>-<number> and, written last, an empty marker .whole-<generation>-<pieces>-<bytes>. The file is there if and
 *  only if a marker is; of several the highest generation counts. `cat X.pieces/* > X` joins them by hand. */
import type { Item } from './filters.js';

export const suffix = '.pieces';
export const lastGeneration = 9999;
const maximumPieces = 999_999;

/** In a filter: the pieces of every generation. */
export const anyPiece = `[0-9][0-9][0-9][0-9]-[0-9][0-9][0-9][0-9][0-9][0-9]`;
export const anyMarker = '.whole-*';

const digits = (n: number, width: number): string => String(n).padStart(width, '0');
export const pieceName = (generation: number, number: number): string => `${digits(generation, 4)}-${digits(number, 6)}`;
/** In a filter: all that is of one generation. */
export const ofGeneration = (generation: number): readonly string[] => [
  `${digits(generation, 4)}-*`,
  `${anyMarker.slice(0, -1)}${digits(generation, 4)}-*`,
];

/** What a marker says. */
export interface Whole {
  readonly generation: number;
  readonly count: number;
  readonly bytes: number;
}

export const markerName = ({ generation, count, bytes }: Whole): string => `.whole-${digits(generation, 4)}-${count}-${bytes}`;

function wholeIn(name: string): Whole | undefined {
  const [, generation, count, bytes] = /^\.whole-(\d{4})-(\d{1,6})-(\d{1,16})$/.exec(name) ?? [];
  return bytes === undefined ? undefined : { generation: Number(generation), count: Number(count), bytes: Number(bytes) };
}

/** What a folder of pieces holds. */
export class PieceFolder {
  #whole: Whole | undefined;
  #highest = 0;
  #foreign = false;
  readonly #sizes = new Map<string, number>();

  /** Takes note of something in it. */
  add(name: string, item: Item): void {
    const whole = wholeIn(name);
    const generation = whole?.generation ?? Number(/^(\d{4})-\d{6}$/.exec(name)?.[1] ?? Number.NaN);
    if (Number.isNaN(generation) || item.kind !== 'file') {
      this.#foreign = true;
      return;
    }
    this.#highest = Math.max(this.#highest, generation);
    if (whole === undefined) this.#sizes.set(name, item.size);
    else if (this.#whole === undefined || this.#whole.generation < generation) this.#whole = whole;
  }
  /** The file that is there. */
  get whole(): Whole | undefined {
    return this.#whole;
  }
  /** The highest generation that anything in it is of. */
  get highest(): number {
    return this.#highest;
  }
  /** Nothing but what puts leave is in it. */
  get ours(): boolean {
    return !this.#foreign;
  }
  size(generation: number, number: number): number | undefined {
    return this.#sizes.get(pieceName(generation, number));
  }
}

export const tooMany = (count: number): boolean => count > maximumPieces;
