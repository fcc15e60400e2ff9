// A hub of our own on this machine: the few answers of the real one's interface that fetching a model asks for.
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface StubModel {
  files: Record<string, Buffer>;
  /** Other answers than the file: by path. */
  broken?: Record<string, 'truncated' | 'short' | 'damaged'>;
  /** Who may read it. */
  token?: string;
}

export interface Stub {
  url: string;
  /** 'GET /path' of every request. */
  requests: string[];
  close(): Promise<void>;
}

export const COMMIT = '0123456789abcdef0123456789abcdef01234567';
const sha = (kind: 'sha1' | 'sha256', data: Buffer | string) => createHash(kind).update(data).digest('hex');
const isLarge = (path: string) => path.endsWith('.safetensors');

function tree(files: Record<string, Buffer>): object[] {
  const entries = Object.entries(files).map(([path, data]) => {
    const oid = sha('sha1', Buffer.concat([Buffer.from(`blob ${data.length}\0`), data]));
    return {
      type: 'file',
      path,
      size: data.length,
      oid,
      ...(isLarge(path) ? { lfs: { oid: sha('sha256', data), size: data.length, pointerSize: 130 } } : {}),
    };
  });
  return [{ type: 'directory', path: 'onnx', size: 0, oid: '0' }, ...entries];
}

function sendFile(request: IncomingMessage, response: ServerResponse, data: Buffer, broken?: 'truncated' | 'short' | 'damaged'): void {
  const headers = { etag: `"${sha('sha1', data)}"`, 'accept-ranges': 'bytes' };
  if (request.headers.range === 'bytes=0-0') {
    response.writeHead(206, { ...headers, 'content-range': `bytes 0-0/${data.length}`, 'content-length': 1 });
    return void response.end(data.subarray(0, 1));
  }
  if (broken === 'truncated') {
    response.writeHead(200, { ...headers, 'content-length': data.length });
    response.write(data.subarray(0, data.length >> 1), () => setTimeout(() => response.destroy(), 20));
    return;
  }
  const body =
    broken === 'short'
      ? data.subarray(0, data.length >> 1)
      : broken === 'damaged'
        ? Buffer.from(data.map((b, i) => (i === 9 ? b ^ 1 : b)))
        : data;
  response.writeHead(200, { ...headers, 'content-length': body.length });
  response.end(body);
}

/** Serves models by name at revision `main`, `v1` and COMMIT. */
export async function stubHub(models: Record<string, StubModel>): Promise<Stub> {
  const requests: string[] = [];
  const server = createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url!, 'http://x').pathname);
    requests.push(`${request.method} ${path}`);
    const refuse = (status: number, error: string, code: string) => {
      response.writeHead(status, { 'content-type': 'application/json', 'x-error-code': code, 'x-error-message': error });
      response.end(JSON.stringify({ error }));
    };
    const [, name, what, rest = ''] = /^\/(?:api\/models\/)?(.+?)\/(revision|tree|resolve)\/(.*)$/.exec(path) ?? [];
    const model = models[name ?? ''];
    if (!model) return refuse(404, 'Repository not found', 'RepoNotFound');
    if (model.token && request.headers.authorization !== `Bearer ${model.token}`)
      return refuse(401, `Access to model ${name} is restricted.`, 'GatedRepo');
    const [revision, ...parts] = rest.split('/');
    if (!['main', 'v1', COMMIT].includes(revision!)) return refuse(404, `Invalid rev id: ${revision}`, 'RevisionNotFound');
    const json = (value: unknown) => (
      response.writeHead(200, { 'content-type': 'application/json' }),
      void response.end(JSON.stringify(value))
    );
    if (what === 'revision')
      return json({ _id: '1', id: name, sha: COMMIT, private: false, likes: 0, downloads: 0, gated: false, lastModified: '2024-01-01' });
    if (what === 'tree') return json(tree(model.files));
    const file = model.files[parts.join('/')];
    if (!file) return refuse(404, 'Entry not found', 'EntryNotFound');
    sendFile(request, response, file, model.broken?.[parts.join('/')]);
  });
  await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    requests,
    close: () => new Promise((done) => (server.closeAllConnections(), server.close(() => done()))),
  };
}
