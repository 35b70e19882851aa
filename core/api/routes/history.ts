/** The ended runs of a job, good and bad. */
import type { HistoryRow, JobKind } from '../../jobs/job.js';
import { isKind, kinds } from '../../jobs/kinds.js';
import { errorRows, isErrorCode } from '../../primitives/error-rows.js';
import type { ApiDeps } from '../deps.js';
import { linkTo } from '../lists.js';
import { json, type Reply } from '../replies.js';
import { type ApiRequest, idOf, requireFound } from '../request.js';
import { listOf, type Route, route, rowsOf } from '../route.js';

const rows = rowsOf({
  listBackupHistory: {
    summary: 'List the ended runs of a backup job',
    access: 'user',
    query: ['limit', 'before'],
    answer: listOf('history-row'),
  },
  listRestoreHistory: {
    summary: 'List the ended runs of a restore job',
    access: 'user',
    query: ['limit', 'before'],
    answer: listOf('history-row'),
  },
});
const rowOf = { backup: rows.listBackupHistory, restore: rows.listRestoreHistory } as const satisfies Record<JobKind, unknown>;

/** Default of `limit`. */
const usualLimit = 100;

/** Shows a row with RFC 3339 times, and its error with the fix. */
export function showRow({ kind: _kind, job: _job, began, ended, error, ...row }: HistoryRow): object {
  return {
    ...row,
    began_at: new Date(began).toISOString(),
    ended_at: new Date(ended).toISOString(),
    ...(error && { error: { ...error, ...(isErrorCode(error.code) && { fix: errorRows[error.code].fix }) } }),
  };
}

/** Lists the newest rows first; `before` names a row, of which only older ones are shown. */
async function list(deps: ApiDeps, kind: JobKind, request: ApiRequest): Promise<Reply> {
  const id = idOf(request);
  const { limit = usualLimit, before } = request.query;
  requireFound(await deps.jobs[kind].get(id), `${kind} ${id}`);
  const found = await deps.jobs.history(kind, id, { limit: limit + 1, ...(before !== undefined && { before }) });
  const part = found.slice(0, limit);
  const last = part.at(-1);
  return json(part.map(showRow), { headers: found.length > part.length && last ? { Link: linkTo(request, 'before', last.id) } : {} });
}

export function historyRoutes(deps: ApiDeps): Route[] {
  return Object.keys(kinds)
    .filter(isKind)
    .map((kind) => route('get', `/${kind}/:id/history`, rowOf[kind], (request) => list(deps, kind, request)));
}
