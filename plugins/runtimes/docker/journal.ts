import { readFileSync, readlinkSync } from 'node:fs';
import { readdir, readFile, rm } from 'node:fs/promises';
import { syncFolder, writeDurably } from '../../shared/durable.js';
import { count, fields, flag, items, text, texts } from './narrow.js';
import type { Place } from './place.js';

/** draft: nothing old was touched · swap: go back · done: the new one runs, only remove what was replaced. */
export type Phase = 'draft' | 'swap' | 'done';

/** Everything a draft has made or moved, so that another process can undo it. */
export interface Journal {
  readonly rand: string;
  readonly owner: { readonly task: string; readonly started: string };
  readonly container: string;
  phase: Phase;
  newId: string;
  oldId: string;
  oldRunning: boolean;
  /** Its restart policy, taken from it while it stands aside: an engine that starts would start it. */
  oldRestart: unknown;
  /** done: what was replaced is kept until then, epoch ms; 0 for not at all. */
  undoUntil: number;
  volumes: string[]; // made for it
  networks: string[];
  image: string; // id of the image that it loaded
  tags: string[]; // that came with it
  places: Place[];
}

export const temporaryName = (journal: Journal) => `${journal.container}.container-backup-${journal.rand}`;
export const oldName = (journal: Journal) => `${journal.container}.container-backup-old-${journal.rand}`;

function startOf(task: string): string {
  try {
    const stat = readFileSync(`/proc/${task}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? ''; // field 22; the name in () may hold blanks
  } catch {
    return '';
  }
}

/** The thread, since a job's worker may die while the process lives on. */
export function ownerOfThisThread(): Journal['owner'] {
  const task = readlinkSync('/proc/thread-self');
  return { task, started: startOf(task) };
}

export function newJournal(container: string, rand: string): Journal {
  const made = {
    newId: '',
    oldId: '',
    oldRunning: false,
    oldRestart: undefined,
    undoUntil: 0,
    volumes: [],
    networks: [],
    image: '',
    tags: [],
    places: [],
  };
  return { rand, owner: ownerOfThisThread(), container, phase: 'draft', ...made };
}

/** Whether the thread that wrote it still runs; task and start time together are unique. */
export function isAlive(journal: Journal): boolean {
  const { task, started } = journal.owner;
  return /^[0-9]+\/task\/[0-9]+$/.test(task) && started !== '' && startOf(task) === started;
}

const fileName = (rand: string) => `draft-${rand}.json`;

export function writeJournal(folder: string, journal: Journal): Promise<void> {
  return writeDurably(folder, fileName(journal.rand), JSON.stringify(journal));
}

export async function removeJournal(folder: string, journal: Journal): Promise<void> {
  await rm(`${folder}/${fileName(journal.rand)}`, { force: true });
  await syncFolder(folder);
}

const modes: readonly Place['mode'][] = ['direct', 'rename', 'entries', 'file'];

function readPlace(value: unknown): Place {
  const place = fields(value);
  const mode = modes.find((known) => known === place.mode) ?? 'direct';
  const attributes = place.attributes === undefined ? undefined : fields(place.attributes);
  return {
    mode,
    live: text(place.live),
    rand: text(place.rand),
    had: flag(place.had),
    names: [...texts(place.names)],
    excludes: texts(place.excludes),
    madeParent: text(place.madeParent),
    ...(attributes && { attributes: { mode: count(attributes.mode), uid: count(attributes.uid), gid: count(attributes.gid) } }),
  };
}

function readJournal(content: string): Journal | undefined {
  const all = fields(JSON.parse(content));
  const owner = fields(all.owner);
  const phase = (['draft', 'swap', 'done'] as const).find((known) => known === all.phase);
  if (phase === undefined || !/^[0-9a-f]{8}$/.test(text(all.rand))) return undefined;
  return {
    rand: text(all.rand),
    owner: { task: text(owner.task), started: text(owner.started) },
    container: text(all.container),
    phase,
    newId: text(all.newId),
    oldId: text(all.oldId),
    oldRunning: flag(all.oldRunning),
    oldRestart: all.oldRestart,
    undoUntil: count(all.undoUntil),
    volumes: [...texts(all.volumes)],
    networks: [...texts(all.networks)],
    image: text(all.image),
    tags: [...texts(all.tags)],
    places: items(all.places).map(readPlace),
  };
}

/** All journals of the folder that can be read. */
export async function readJournals(folder: string): Promise<readonly Journal[]> {
  const names = (await readdir(folder)).filter((name) => /^draft-[0-9a-f]{8}\.json$/.test(name));
  const journals = await Promise.all(names.map(async (name) => readJournal(await readFile(`${folder}/${name}`, 'utf8'))));
  return journals.filter((journal) => journal !== undefined);
}
