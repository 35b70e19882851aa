/** Makes a household of containers from a seed: folders, the containers that mount them, and the excludes of the jobs. */

export type Kind = 'docker' | 'lxc';

/** Random numbers of a seed (mulberry32). */
export class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** From 0 up to, but not including, `sides`. */
  roll(sides: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % sides;
  }

  chance(percent: number): boolean {
    return this.roll(100) < percent;
  }

  /** @throws Error when there is none */
  pick<T>(from: readonly T[]): T {
    const one = from[this.roll(from.length)];
    if (one === undefined) throw new Error('nothing to pick from');
    return one;
  }

  some<T>(from: readonly T[], count: number): T[] {
    const left = [...from];
    return Array.from({ length: Math.min(count, left.length) }, () => left.splice(this.roll(left.length), 1)).flat();
  }
}

export interface MountWish {
  /** Path in the container, without the first slash. */
  readonly at: string;
  readonly kind: 'folder' | 'file';
  /** Source for the engine: a volume's name, or a path of the host. */
  readonly host: string;
  readonly isVolume: boolean;
}

export interface ContainerWish {
  readonly name: string;
  readonly mounts: readonly MountWish[];
  readonly running: boolean;
  /** Excludes of the job. */
  readonly exclude: readonly string[];
}

export interface Graph {
  readonly kind: Kind;
  readonly top: string;
  readonly media: string;
  /** Folders to make, outer ones first. */
  readonly folders: readonly string[];
  /** Mount points: a tmpfs, or a bind of the folder `from`. */
  readonly mounts: readonly { readonly at: string; readonly from?: string }[];
  readonly links: Readonly<Record<string, string>>;
  readonly files: readonly string[];
  readonly containers: readonly ContainerWish[];
}

const plainFolders = [
  'plain/a',
  'plain/a/sub',
  'plain/a/sub/deep',
  'plain/a/cache',
  'plain/b',
  'plain/b/inner',
  'plain/b/cache',
  'plain/c',
];
const diskFolders = ['disk/d', 'disk/d/cache', 'disk/d/e'];

/** Name of a mount's source in the API: from its path in the container (LXC) or on the host (Docker). */
export const sourceName = (kind: Kind, { at, host }: MountWish): string =>
  kind === 'lxc'
    ? at
    : host
        .replace(/^\/+/, '')
        .replace(/[^a-zA-Z0-9._-]+/g, '-')
        .slice(0, 120);

const patterns = ['*', '/cache', '/cache/*', '/cache/*.tmp', '/*.tmp', '/sub', '/sub/*', '/e', '/none'];

function excludesOf(dice: Dice, kind: Kind, mounts: readonly MountWish[]): string[] {
  const found: string[] = [];
  for (const mount of mounts) {
    const name = sourceName(kind, mount);
    if (dice.chance(18)) found.push(`volume:${name}`);
    else if (mount.kind === 'folder' && dice.chance(45)) found.push(`${name}:${dice.pick(patterns)}`);
  }
  if (dice.chance(25)) found.push('rootfs:/own/cache');
  return found;
}

interface Ground {
  readonly kind: Kind;
  readonly top: string;
  readonly media: string;
  readonly prefix: string;
  readonly lxcPath: string;
}

function mountsOf(dice: Dice, ground: Ground, candidates: readonly string[], n: number): MountWish[] {
  const { kind, top, media, prefix, lxcPath } = ground;
  const paths = dice.some(candidates, 1 + dice.roll(3));
  const mounts: MountWish[] = paths.map((path, at) => ({
    at: `m${at}`,
    kind: path.endsWith('conf') ? 'file' : 'folder',
    host: path.startsWith('media') ? media + path.slice('media'.length) : `${top}/${path}`,
    isVolume: false,
  }));
  if (kind === 'docker') {
    for (const volume of dice.some(['v0', 'v1', 'v2'], dice.roll(3)))
      mounts.push({ at: `in-${volume}`, kind: 'folder', host: `${prefix}-${volume}`, isVolume: true });
    return mounts;
  }
  if (dice.chance(80)) mounts.push({ at: 'data', kind: 'folder', host: `${lxcPath}/${prefix}-c${n}/volumes/data`, isVolume: true });
  return mounts;
}

/** Sources that a container may mount: directly, through a link, or as a single file. */
const mountable = [
  'plain/a',
  'plain/a/sub',
  'plain/a/sub/deep',
  'plain/b',
  'plain/b/inner',
  'disk',
  'disk/d',
  'media',
  'media/films',
  'plain/link',
  'plain/link/sub',
  'plain/to-disk',
  'plain/conf',
  'disk/d/conf',
];

/** Makes the same household for the same seed. */
export function graphOf(seed: number, ground: Ground): Graph {
  const dice = new Dice(seed);
  const { kind, top, media, prefix } = ground;
  const mounts = [{ at: `${top}/disk` }];
  const inner = [
    ...(dice.chance(60) ? [{ at: `${top}/plain/b/usb` }] : []),
    ...(dice.chance(60) ? [{ at: `${top}/plain/a/bound`, from: `${top}/plain/c` }] : []),
  ];
  const links = { [`${top}/plain/link`]: 'a', [`${top}/plain/to-disk`]: `${top}/disk/d` };
  const candidates = dice.some(mountable, 3 + dice.roll(6)); // few of them, so that containers share
  const containers = Array.from({ length: 2 + dice.roll(5) }, (_, n): ContainerWish => {
    const wishes = mountsOf(dice, ground, candidates, n);
    return {
      name: `${prefix}-c${n}`,
      mounts: wishes,
      running: dice.chance(kind === 'docker' ? 45 : 25),
      exclude: excludesOf(dice, kind, wishes),
    };
  });
  const under = (paths: readonly string[]) => paths.map((path) => `${top}/${path}`);
  return {
    kind,
    top,
    media,
    folders: [...under(plainFolders), ...under(diskFolders), `${media}/films`, `${media}/cache`],
    mounts: [...mounts, ...inner],
    links,
    files: under(['plain/conf', 'disk/d/conf']),
    containers,
  };
}
