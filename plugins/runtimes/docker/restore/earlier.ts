/** Reads the journals of the version before: one file `draft-<id>.json` for each restore. */
import { readdir, readFile, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { PluginError } from '../../../../core/contract/index.js';
import { orAbsent } from '../../../shared/presence.js';
import { syncFolder } from '../../../shared/primitives/durable.js';
import { isAlive, nobody } from '../../../shared/primitives/owner.js';
import { adoptPlace, type EarlierPlace, hiddenBeside, madeParents, newPlaceMade, type Place } from '../../../shared/swap/index.js';
import { engine } from '../engine/engine.js';
import { count, type Fields, fields, flag, items, text, texts } from '../engine/json.js';
import { type Journal, oldName, type SwapDeps } from './journal.js';

const filePattern = /^draft-[0-9a-f]{8}\.json$/;

/** Where the version before put the files, by the place's mode; undefined for a place that was filled directly. */
function earlierPlace(place: Fields): EarlierPlace | undefined {
  const [live, mode, mark] = [text(place.live), place.mode, `.container-backup-${text(place.rand)}`];
  const names = texts(place.names);
  const aside = { beside: dirname(live), way: 'whole', old: `${live}.container-backup-old-${text(place.rand)}` } as const;
  const common = { live, had: flag(place.had), excludes: texts(place.excludes), parents: madeParents(text(place.madeParent), live), names };
  if (mode === 'rename') return { ...common, ...aside, filled: `${live}${mark}`, built: `${live}${mark}` };
  if (mode === 'file') {
    const filled = hiddenBeside(live, mark);
    return { ...common, ...aside, filled, built: `${filled}/${names[0] ?? ''}` };
  }
  if (mode !== 'entries') return undefined;
  const [root, attributes] = [`${live}/${mark}`, fields(place.attributes)];
  const known = place.attributes === undefined ? {} : { attributes: rights(attributes) };
  return { ...common, ...known, way: 'entries', filled: `${root}/new`, built: `${root}/new`, old: `${root}/old`, beside: live };
}

const rights = ({ mode, uid, gid }: Fields) => ({ mode: count(mode), uid: count(uid), gid: count(gid) });

/** @returns undefined while the thread that wrote it lives. @throws PluginError damaged */
async function adopt(told: Fields, file: string): Promise<Journal | undefined> {
  const id = text(told.rand);
  const phase = (['draft', 'swap', 'done'] as const).find((known) => known === told.phase);
  const isWhole = items(told.places)
    .map(fields)
    .every(({ live }) => text(live).startsWith('/'));
  if (phase === undefined || text(told.container) === '' || !file.endsWith(`/draft-${id}.json`) || !isWhole)
    throw new PluginError('damaged', `${file} is no journal of a restore; check it and remove it`);
  const { task, started } = fields(told.owner);
  if (isAlive({ task: text(task), started: text(started) })) return undefined;
  const places: Place[] = [];
  for (const [n, one] of items(told.places).map(fields).entries()) {
    const earlier = earlierPlace(one);
    places.push(...(earlier ? await adoptPlace(earlier, `${id}-${n}`, phase) : [newPlaceMade(text(one.live))]));
  }
  const lists = { volumes: [...texts(told.volumes)], networks: [...texts(told.networks)], tags: [...texts(told.tags)] };
  const ids = { newId: text(told.newId), oldId: text(told.oldId), image: text(told.image) };
  const old = { oldRunning: flag(told.oldRunning), oldRestart: told.oldRestart };
  const common = { id, owner: nobody, container: text(told.container), phase, undoUntil: count(told.undoUntil), undoing: false, places };
  return { ...common, ...ids, ...old, ...lists };
}

/** Renames the old container to today's form, which says until when it is stored. */
async function renameOld({ client }: SwapDeps, journal: Journal): Promise<void> {
  const old = journal.oldId === '' ? undefined : await orAbsent(engine.inspect(client, journal.oldId));
  if (old?.name === oldName({ ...journal, undoUntil: 0 }) && old.name !== oldName(journal))
    await engine.rename(client, journal.oldId, oldName(journal));
}

async function adoptFile(deps: SwapDeps, file: string): Promise<void> {
  const journal = await adopt(fields(JSON.parse(await readFile(file, 'utf8'))), file);
  if (journal === undefined) return;
  await renameOld(deps, journal);
  await deps.journals.write(journal);
  for (const one of [`${file}.part`, file]) await rm(one, { force: true });
  await syncFolder(deps.stateFolder);
}

/** Turns each into a journal of today; tries all before it rejects. @throws PluginError failed */
export async function adoptEarlier(deps: SwapDeps): Promise<void> {
  const errors: unknown[] = [];
  for (const name of (await readdir(deps.stateFolder)).filter((one) => filePattern.test(one)))
    await adoptFile(deps, `${deps.stateFolder}/${name}`).catch((error: unknown) => errors.push(error));
  if (errors.length > 0) throw new PluginError('failed', errors.map(String).join('; '), { cause: errors[0] });
}
