// Token ids against Python's tokenizers (scripts/goldens/make_goldens.py); chat templates; token bytes.
import { describe, expect, test } from '@jest/globals';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ChatTemplate } from '../../lib/engine/chat.js';
import { Tokenizer } from '../../lib/engine/tokenizer.js';

const folder = (name: string) => join(__dirname, '../golden/tokenizers', name);
interface Case {
  text: string;
  ids: number[];
  plain: number[];
  decoded: string;
}

describe.each(['byte-level', 'gpt2-like', 'sentencepiece-like'])('%s', (name) => {
  const tokenizer = Tokenizer.load(folder(name))!;
  const { cases } = JSON.parse(readFileSync(join(folder(name), 'golden.json'), 'utf8')) as { cases: Case[] };

  test.each(cases.map((c) => [JSON.stringify(c.text), c] as const))('%s', (_, c) => {
    expect(Array.from(tokenizer.encode(c.text))).toEqual(c.ids);
    expect(Array.from(tokenizer.encode(c.text, false))).toEqual(c.plain);
    expect(tokenizer.decode(c.ids)).toBe(c.decoded);
  });

  test('the bytes of the tokens, end to end, are the text', () => {
    const { bytes, offsets } = tokenizer.tokenBytes();
    for (const c of cases) {
      const joined = Buffer.concat(c.plain.map((id) => bytes.subarray(offsets[id], offsets[id + 1]))).toString();
      expect(joined.trimStart()).toBe(c.text.trimStart());
    }
  });
});

test('a folder without tokenizer.json has no tokenizer; a broken one is an error', () => {
  const dir = mkdtempSync(join(tmpdir(), 'fg-tok-'));
  expect(Tokenizer.load(dir)).toBeUndefined();
  writeFileSync(join(dir, 'tokenizer.json'), '{"model": ');
  expect(() => Tokenizer.load(dir)).toThrow(/not valid JSON/);
  writeFileSync(join(dir, 'tokenizer.json'), '{"model": {"type": "Nonsense"}}');
  expect(() => Tokenizer.load(dir)).toThrow(/cannot be used/);
  rmSync(dir, { recursive: true });
});

test('chat templates: the file, the config, a named list; errors raised by the template', () => {
  const dir = mkdtempSync(join(tmpdir(), 'fg-chat-'));
  cpSync(folder('byte-level'), dir, { recursive: true });
  const messages = [
    { role: 'system', content: 'Be brief.' },
    { role: 'user', content: 'Hi' },
  ];
  expect(ChatTemplate.load(dir, {})).toBeUndefined();
  const inline =
    '{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}';
  const want = '<system>Be brief.</s><user>Hi</s><assistant>';
  expect(ChatTemplate.load(dir, { chat_template: inline, eos_token: { content: '</s>' } })!.render(messages)).toBe(want);
  const named = [
    { name: 'tool_use', template: 'x' },
    { name: 'default', template: inline },
  ];
  expect(ChatTemplate.load(dir, { chat_template: named, eos_token: '</s>' })!.render(messages)).toBe(want);
  writeFileSync(join(dir, 'chat_template.jinja'), '{{ bos_token }}{{ messages[0].content }}');
  expect(ChatTemplate.load(dir, { chat_template: inline, bos_token: '<s>' })!.render(messages)).toBe('<s>Be brief.');
  writeFileSync(join(dir, 'chat_template.jinja'), "{{ raise_exception('no system role') }}");
  expect(() => ChatTemplate.load(dir, {})!.render(messages)).toThrow(/no system role/);
  writeFileSync(join(dir, 'chat_template.jinja'), '{% for %}');
  expect(() => ChatTemplate.load(dir, {})).toThrow(/does not parse/);
  rmSync(dir, { recursive: true });
});
