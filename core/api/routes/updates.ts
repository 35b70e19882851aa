/** Updates of the firmware. */
import { parse } from '../../schemas.js';
import type { ApiDeps, Updates } from '../deps.js';
import { invalidField } from '../errors.js';
import { json, type Reply } from '../replies.js';
import { type ApiRequest, toBody } from '../request.js';
import { one, type Route, route, rowsOf } from '../route.js';

const answer = one('update-status');
const rows = rowsOf({
  getUpdate: { access: 'admin', summary: 'Get the slots and the state of an update', answer },
  sendBundle: { access: 'admin', summary: 'Send a bundle', body: 'bytes', answer: one('update-bundle') },
  deleteBundle: { access: 'admin', summary: 'Remove the sent bundle', answer },
  installUpdate: {
    access: 'admin',
    summary: 'Install the bundle to the other slot',
    query: ['force'],
    body: { schema: 'update-install', mayBeMissing: true },
    answer,
    status: 202,
  },
  rebootMachine: {
    access: 'admin',
    summary: 'Restart the machine',
    query: ['force'],
    body: { schema: 'update-reboot', mayBeMissing: true },
    answer: one('rebooting'),
    status: 202,
  },
});

/** Content-Length; undefined for a chunked body. @throws ValidationError for an empty body */
function lengthOf({ length }: ApiRequest): number | undefined {
  if (length === 0) throw invalidField('', 'must be the bundle itself, as application/octet-stream');
  return length;
}

/** Reads a body that may be absent. */
async function wishes<Name extends 'update-install' | 'update-reboot'>(request: ApiRequest, schema: Name) {
  const text = await request.text();
  const body = parse(schema, text.trim() === '' ? {} : toBody(text));
  return { ...body, force: body.force || request.query.force !== undefined };
}

async function install(updates: Updates, request: ApiRequest): Promise<Reply> {
  await updates.install(await wishes(request, 'update-install'));
  return json(await updates.status());
}

async function restart(updates: Updates, request: ApiRequest): Promise<Reply> {
  await updates.restart(await wishes(request, 'update-reboot'));
  return json({ rebooting: true });
}

async function discard(updates: Updates): Promise<Reply> {
  await updates.discard();
  return json(await updates.status());
}

/** No routes when this service does not update the appliance. */
export function updateRoutes({ updates }: ApiDeps): Route[] {
  if (updates === undefined) return [];
  const receive = async (request: ApiRequest) => json(await updates.receive(() => request.stream(), lengthOf(request), request.gone));
  return [
    route('get', '/update/', rows.getUpdate, async () => json(await updates.status())),
    route('put', '/update/bundle', rows.sendBundle, receive),
    route('delete', '/update/bundle', rows.deleteBundle, () => discard(updates)),
    route('post', '/update/install', rows.installUpdate, (c) => install(updates, c)),
    route('post', '/update/reboot', rows.rebootMachine, (c) => restart(updates, c)),
  ];
}
