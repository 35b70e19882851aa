/** The rows that must survive a power cut: jobs, leases, targets, users, sessions, preferences. One process opens the folder;
 *  every write is synced before it is acknowledged. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { PluginLog } from '../contract/index.js';
import type { HistoryRows, LeaseRows, RowsByKind } from '../jobs/job.js';
import type { Vault } from '../secrets.js';
import { type Database, type DatabaseOptions, openDatabase } from './copies/database.js';
import { stateErrorOf } from './failure.js';
import { openHistory } from './history.js';
import { openJobs, openLeases } from './jobs.js';
import { openKey } from './key.js';
import { openPreferences, type PreferenceRows } from './preferences.js';
import { openShares, type ShareRows } from './shares.js';
import { openTargets, type TargetRows } from './targets.js';
import { openSessions, openUsers, type Sessions, type Users } from './users.js';

export {
  beginAnew,
  type Examined,
  examineState,
  repairWay as repairedWay,
  restoreWay as restoredWay,
  takeRows,
  type WayOut,
} from './copies/mending.js';
export { StateDamaged } from './failure.js';
export type { Preferences } from './preferences.js';
export type { TargetRow, TargetSpec } from './targets.js';
export type { Session, User } from './users.js';

/** All rows. Those of each kind of job are a table by the name of the kind. */
export interface Store extends RowsByKind {
  readonly leases: LeaseRows;
  readonly history: HistoryRows;
  readonly targets: TargetRows;
  readonly users: Users;
  readonly sessions: Sessions;
  readonly preferences: PreferenceRows;
  readonly shares: ShareRows;
  /** Encrypts a text with the appliance's key; anybody with the state folder can decrypt it for the same purpose. */
  seal(text: string, purpose: string): string;
  close(): Promise<void>;
}

export interface StoreOptions {
  readonly log?: PluginLog;
  /** Milliseconds between comparisons of both copies; default: a day. */
  readonly compareEvery?: number;
}

const day = 86_400_000;

/** @throws ServiceError when the folder is in use or cannot be written
 *  @throws StateDamaged when acknowledged rows are missing */
export async function openStore(stateFolder: string, { log = () => undefined, compareEvery = day }: StoreOptions = {}): Promise<Store> {
  const db = await openFolder({ folder: stateFolder, log, compareEvery });
  try {
    const history = openHistory(join(stateFolder, 'history'), log);
    const store = { ...storeOf(db, await openKey(stateFolder, db, log)), history };
    for (const { id, spec, lost } of await store.targets.list())
      if (lost !== undefined) log('warn', `the password of target ${id} (${spec.name}) cannot be decrypted with secret.key; set it again`);
    return store;
  } catch (error) {
    await db.close();
    throw stateErrorOf(stateFolder, error) ?? error;
  }
}

function storeOf(db: Database, vault: Vault): Omit<Store, 'history'> {
  return {
    backup: openJobs(db, 'backup'),
    restore: openJobs(db, 'restore'),
    leases: openLeases(db),
    targets: openTargets(db, vault),
    users: openUsers(db),
    sessions: openSessions(db),
    preferences: openPreferences(db),
    shares: openShares(db),
    seal: (text, purpose) => vault.seal(text, purpose),
    close: () => db.close(),
  };
}

async function openFolder(options: DatabaseOptions): Promise<Database> {
  const { folder } = options;
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    return await openDatabase(options);
  } catch (error) {
    throw stateErrorOf(folder, error) ?? error;
  }
}
