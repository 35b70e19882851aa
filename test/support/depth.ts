/** How many points a suite tries: kills, cuts, names, cells of a matrix. `make test` tries a few with a fixed seed, and still each
 *  kind of point. `make campaign-<name>` tries all, with any seed (TEST_SEED). */

import type { DataSize } from '../system/crash/busy-data.js';

interface Campaign<Points> {
  /** Suites that take their points from here, by the names of `make test ONLY=`. */
  readonly suites: readonly string[];
  /** One line for `make campaigns-help` and docs/reliability.md. */
  readonly about: string;
  readonly short: Points;
  readonly whole: Points;
}

/** The container's content (busy-data.ts), and the kills of each engine: anywhere in a run, or at a state of the container (`frozen`, `swap`, `made`). */
export interface CrashPoints {
  readonly size: DataSize;
  readonly backups: number;
  readonly frozen: readonly ('child' | 'service')[];
  readonly replacements: number;
  /** Kills in or after the swap, in addition to one right after the container stops and one after it starts. */
  readonly swaps: number;
  readonly clones: number;
}

/** Values of each block. */
export interface HostilePoints {
  readonly targets: number;
  readonly sftp: number;
  readonly smb: number;
  readonly rsync: number;
  readonly openings: number;
}

/** Bits of each file, kills and power cuts of a process that writes; levels of a full disk under the store, and under a service that
 *  backs up, for the state, the share and both; kills and power cuts of the whole service. */
export interface StatePoints {
  readonly bits: number;
  readonly levels: number;
  readonly kills: number;
  readonly cuts: number;
  readonly serviceLevels: number;
  readonly serviceKills: number;
  readonly serviceCuts: number;
}

/** Households of each engine, and steps of each walk. */
export interface HouseholdPoints {
  readonly docker: number;
  readonly lxc: number;
  readonly steps: number;
  /** How many households run at a time. */
  readonly machines: number;
}

/** Whether MariaDB and Redis run beside PostgreSQL and SQLite; runs with and without a pause of each engine, and how many of the paused
 *  ones retention keeps. The bases change in the middle. */
export interface DatabasePoints {
  readonly all: boolean;
  readonly paused: number;
  readonly retention: number;
  readonly live: number;
}

/** Size of the big file; kills on a file system that clones, and on one that does not. */
export interface BlockKillPoints {
  readonly mebibytes: number;
  readonly xfs: number;
  readonly ext4: number;
}

const campaign = <Points>(one: Campaign<Points>): Campaign<Points> => one;

export const campaigns = {
  crash: campaign<CrashPoints>({
    suites: ['system/crash/crash'],
    about: 'kill -9 of the service and of its children, in backups, replacements and clones of both engines',
    short: {
      size: { large: 2, small: 50, hotSmall: 150, hotLarge: 8 },
      backups: 2,
      frozen: ['child', 'service'],
      replacements: 2,
      swaps: 0,
      clones: 1,
    },
    whole: {
      size: { large: 4, small: 200, hotSmall: 600, hotLarge: 12 },
      backups: 10,
      frozen: ['child', 'service', 'service'],
      replacements: 4,
      swaps: 1,
      clones: 4,
    },
  }),
  shutdown: campaign<{ readonly points: number; readonly size: DataSize }>({
    suites: ['system/lifecycle/shutdown'],
    about: 'SIGTERM and stops by a user at any point of backups and restores of both engines',
    short: { points: 2, size: { large: 4, small: 100, hotSmall: 200, hotLarge: 16 } },
    whole: { points: 5, size: { large: 8, small: 400, hotSmall: 600, hotLarge: 24 } },
  }),
  hostile: campaign<HostilePoints>({
    suites: ['system/hostile/remote'],
    about: 'hostile values as targets over the API, as paths on each server, and as options of a plugin',
    short: { targets: 500, sftp: 300, smb: 120, rsync: 80, openings: 150 },
    whole: { targets: 5000, sftp: 2500, smb: 1000, rsync: 500, openings: 1000 },
  }),
  mutated: campaign<{ readonly archives: number }>({
    suites: ['archive/mutated'],
    about: 'archives of two levels that lead out of their folder are changed at random and extracted',
    short: { archives: 60 },
    whole: { archives: 2000 },
  }),
  records: campaign<{ readonly mutations: number; readonly manifests: number }>({
    suites: ['archive/crafted', 'system/memory/records'],
    about: 'manifests with random changes, and many manifests of 14 MiB at one path',
    short: { mutations: 300, manifests: 24 },
    whole: { mutations: 10_000, manifests: 1000 },
  }),
  swap: campaign<{ readonly stride: number; readonly cutStride: number; readonly disks: number; readonly others: number }>({
    suites: ['swap/swap'],
    about:
      'a kill or a power cut of a swap and an undo at every `stride`th call that changes a file system, and at `others` calls on each other kind of disk',
    short: { stride: 31, cutStride: 47, disks: 1, others: 2 },
    whole: { stride: 1, cutStride: 1, disks: 4, others: 60 },
  }),
  household: campaign<HouseholdPoints>({
    suites: ['system/household/household'],
    about: 'random households of containers that share folders: random losses, restores and undos; all files are compared after each step',
    short: { docker: 3, lxc: 3, steps: 8, machines: 1 },
    whole: { docker: 200, lxc: 200, steps: 8, machines: 3 },
  }),
  blocks: campaign<{ readonly histories: number }>({
    suites: ['archive/blocks'],
    about: 'random histories of big files: three runs of two levels each, and every run is extracted and compared',
    short: { histories: 4 },
    whole: { histories: 300 },
  }),
  'block-kills': campaign<BlockKillPoints>({
    suites: ['system/live/kills'],
    about:
      'kill -9 of the service and of its children while the blocks of a big file are stored, while the container is frozen, while its files are cloned, and while the clones are read',
    short: { mebibytes: 32, xfs: 2, ext4: 2 },
    whole: { mebibytes: 64, xfs: 20, ext4: 18 },
  }),
  'remote-faults': campaign<{ readonly kills: number }>({
    suites: ['system/remote/faults'],
    about: 'each server, or only its connections, is killed at evenly spaced points of a backup',
    short: { kills: 4 },
    whole: { kills: 20 },
  }),
  'target-faults': campaign<{ readonly stride: number }>({
    suites: ['system/faults/target-calls'],
    about: 'each operation of a target fails in each way, at every `stride`th call of a run or restore',
    short: { stride: 4 },
    whole: { stride: 1 },
  }),
  databases: campaign<DatabasePoints>({
    suites: ['system/databases/databases'],
    about: 'databases under load on both engines are backed up with and without a pause, and each copy starts and is audited',
    short: { all: false, paused: 3, retention: 2, live: 1 },
    whole: { all: true, paused: 10, retention: 3, live: 10 },
  }),
  fidelity: campaign<{ readonly everyCell: boolean }>({
    suites: ['system/fidelity/lxc', 'system/fidelity/docker'],
    about: 'a nasty tree is restored in every cell of features × state × in place or clone × kind of root',
    short: { everyCell: false },
    whole: { everyCell: true },
  }),
  state: campaign<StatePoints>({
    suites: ['system/state/acknowledged', 'system/state/damage', 'system/state/full', 'system/state/full-levels', 'system/state/service'],
    about:
      'every file of the state folder is deleted, emptied, halved, cut, swapped, made read-only, or has a bit flipped; its disk, the share or both are full; a process that writes to it, or the whole service, is killed or loses power',
    short: { bits: 4, levels: 4, kills: 4, cuts: 3, serviceLevels: 2, serviceKills: 3, serviceCuts: 2 },
    whole: { bits: 200, levels: 20, kills: 200, cuts: 100, serviceLevels: 20, serviceKills: 60, serviceCuts: 30 },
  }),
  large: campaign<{ readonly mebibytes: number; readonly remoteMebibytes: number }>({
    suites: ['system/memory/memory', 'system/memory/remote', 'targets/local', 'targets/smb', 'targets/sftp', 'targets/rsync'],
    about: '20 GB each way within 256 MiB of memory, and 5 GB through each target',
    short: { mebibytes: 2000, remoteMebibytes: 600 },
    whole: { mebibytes: 20_000, remoteMebibytes: 20_000 },
  }),
} as const;

type Campaigns = typeof campaigns;
export type CampaignName = keyof Campaigns;

/** Whether `make campaign-<name>` started this process. */
export const isCampaign = (name: CampaignName): boolean => process.env.TEST_CAMPAIGN === name;

/** The points of the suite, short or whole. */
export function pointsOf<Name extends CampaignName>(name: Name): Campaigns[Name]['short'] {
  return isCampaign(name) ? campaigns[name].whole : campaigns[name].short;
}

/** TEST_SEED, if it is set. Else `make test` takes a fixed seed, and a campaign takes a new one each time. A suite prints its seed. */
export const seed: number =
  Number(process.env.TEST_SEED) || (process.env.TEST_CAMPAIGN === undefined ? 20_261_129 : Date.now() % 1_000_000_007);

/** Picks the points whose name matches POINT, as POINT='^cut (8[3-9]|9)', in suites that name their points. */
const named = new RegExp(process.env.POINT ?? '');
export const isWanted = (point: string): boolean => named.test(point);
