/** Reads the drafts of the version before: one folder `.container-backup-draft-<id>` with a journal for each, in the LXC path. */

import { readdir, readFile } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { PluginError } from '../../../../core/contract/index.js';
import { removeTree } from '../../../shared/mounts.js';
import { within } from '../../../shared/paths.js';
import { isAbsent, present } from '../../../shared/presence.js';
import { syncFolder } from '../../../shared/primitives/durable.js';
import { type Fields, isFields } from '../../../shared/primitives/guards.js';
import { isAlive, nobody } from '../../../shared/primitives/owner.js';
import { adoptPlace, type EarlierPlace, type Phase, type Place } from '../../../shared/swap/index.js';
import type { Journal, SwapDeps } from './journal.js';

const folderPattern = /^\.container-backup-draft-([0-9a-f]{12})$/;
const phases: Readonly<Record<string, Phase>> = { building: 'draft', swapping: 'swap', committed: 'done' };
const states = ['running', 'frozen', 'stopped'] as const;

const isPath = (value: unknown): value is string => typeof value === 'string' && value.startsWith('/');
const texts = (value: unknown): string[] => (Array.isArray(value) ? value : []).filter((one): one is string => typeof one === 'string');

/** @throws PluginError damaged */
function parsePlace(place: unknown, file: string): EarlierPlace {
  if (!isFields(place) || !isPath(place.built) || !isPath(place.final) || !isPath(place.old) || typeof place.hadFinal !== 'boolean')
    throw new PluginError('damaged', `${file} is no journal of a restore; check it and remove its folder`);
  const { built, final: live, old, hadFinal: had } = place;
  const common = { live, built, old, had, excludes: texts(place.excludes), parents: texts(place.parents), names: texts(place.names) };
  const filled = texts(place.scratch)[0] ?? built; // the folder of a single file; a new container lies in the draft's own folder
  if (place.mode === 'entries') return { ...common, way: 'entries', filled: built, beside: live };
  const folder = dirname(filled);
  return { ...common, way: 'whole', filled, beside: folderPattern.test(basename(folder)) ? dirname(folder) : folder };
}

/** The journal's content; undefined when the draft died before it wrote one. */
async function contentOf(file: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(file, 'utf8'));
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw new PluginError('damaged', `${file} is no journal of a restore; check it and remove its folder`, { cause: error });
  }
}

/** @returns undefined while the thread that wrote it lives. @throws PluginError damaged */
async function adopt(told: unknown, folder: string, id: string): Promise<Journal | undefined> {
  const all: Fields = isFields(told) ? told : {};
  const phase = phases[String(all.phase)];
  const former = states.find((one) => one === all.former);
  const { action, container, owner, undoUntil } = all;
  if (phase === undefined || former === undefined || typeof container !== 'string' || (action !== 'create' && action !== 'replace'))
    throw new PluginError('damaged', `${folder}/journal.json is no journal of a restore; check it and remove its folder`);
  const [task = '', started = ''] = String(owner).split(' ');
  if (isAlive({ task, started })) return undefined;
  const earlier = (Array.isArray(all.places) ? all.places : []).map((one) => parsePlace(one, `${folder}/journal.json`));
  const places: Place[] = [];
  // places inside the draft's folder belong to a new container that never left it: they are removed with that folder
  for (const [n, one] of earlier.entries()) if (!within(one.live, folder)) places.push(...(await adoptPlace(one, `${id}-${n}`, phase)));
  const until = typeof undoUntil === 'number' ? undoUntil : 0;
  return { id, owner: nobody, container, phase, undoUntil: until, undoing: false, places, action, former };
}

async function adoptFolder({ journals }: SwapDeps, folder: string, id: string): Promise<void> {
  const told = await contentOf(`${folder}/journal.json`);
  const journal = told === undefined ? undefined : await adopt(told, folder, id);
  if (told !== undefined && journal === undefined) return;
  if (journal) await journals.write(journal);
  await removeTree(folder); // without a journal, the draft made nothing but this folder
  await syncFolder(dirname(folder));
}

/** Turns each into a journal of today; tries all before it rejects. @throws PluginError failed */
export async function adoptEarlier(deps: SwapDeps): Promise<void> {
  const errors: unknown[] = [];
  const { path } = deps.tools;
  for (const name of (await present(path)) ? await readdir(path) : []) {
    const id = folderPattern.exec(name)?.[1];
    if (id !== undefined) await adoptFolder(deps, `${path}/${name}`, id).catch((error: unknown) => errors.push(error));
  }
  if (errors.length > 0) throw new PluginError('failed', errors.map(String).join('; '), { cause: errors[0] });
}
