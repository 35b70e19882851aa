/** A file `X` larger than one piece is a folder `X.pieces`. It holds pieces named <generation>-<number> and, written last, an empty
 *  marker .whole-<generation>-<pieces>-<bytes>. The file exists if and only if a marker does; the highest generation counts.
 *  By hand, `cat X.pieces/* > X` joins the pieces. */
import type { Item } from './filters.js';

export const suffix = '.pieces';
export const lastGeneration = 9999;
const maximumPieces = 999_999;

/** Filter for the pieces of every generation. */
export const anyPiece = `[0-9][0-9][0-9][0-9]-[0-9][0-9][0-9][0-9][0-9][0-9]`;
export const anyMarker = '.whole-*';

const digits = (n: number, width: number): string => String(n).padStart(width, '0');
export const pieceName = (generation: number, number: number): string => `${digits(generation, 4)}-${digits(number, 6)}`;
/** Filters for all files of one generation. */
export const ofGeneration = (generation: number): readonly string[] => [
  `${digits(generation, 4)}-*`,
  `${anyMarker.slice(0, -1)}${digits(generation, 4)}-*`,
];

/** The content of a marker's name. */
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

/** Collects the entries of a folder of pieces. */
export class PieceFolder {
  #whole: Whole | undefined;
  #highest = 0;
  #foreign = false;
  readonly #sizes = new Map<string, number>();

  /** Adds an entry. */
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
  /** The complete file of the highest generation, if any. */
  get whole(): Whole | undefined {
    return this.#whole;
  }
  /** The highest generation of any entry. */
  get highest(): number {
    return this.#highest;
  }
  /** Whether it holds only files of puts. */
  get ours(): boolean {
    return !this.#foreign;
  }
  size(generation: number, number: number): number | undefined {
    return this.#sizes.get(pieceName(generation, number));
  }
}

export const tooMany = (count: number): boolean => count > maximumPieces;
