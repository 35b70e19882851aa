/** Switches the appliance's own sshd and sets its keys. */
import { parse } from '../../schemas.js';
import type { ApiDeps, SshSwitch } from '../deps.js';
import { json, type Reply } from '../replies.js';
import { type ApiRequest, jsonBody } from '../request.js';
import { one, type Route, route, rowsOf } from '../route.js';

const answer = one('ssh-access');
const rows = rowsOf({
  getSsh: { summary: 'Get SSH access and keys', access: 'admin', answer },
  setSsh: { summary: 'Set SSH access and keys', access: 'admin', body: { schema: 'ssh' }, answer },
});

async function set(ssh: SshSwitch, request: ApiRequest): Promise<Reply> {
  const { enabled, authorized_keys } = parse('ssh', await jsonBody(request));
  return json(await ssh.set({ enabled, ...(authorized_keys !== undefined && { authorized_keys }) }));
}

/** No routes when this service does not switch sshd. */
export function sshRoutes({ ssh }: ApiDeps): Route[] {
  if (ssh === undefined) return [];
  return [
    route('get', '/system/ssh', rows.getSsh, async () => json(await ssh.get())),
    route('put', '/system/ssh', rows.setSsh, (c) => set(ssh, c)),
  ];
}
