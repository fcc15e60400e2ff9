// The page around the charts: its style. No network: the policy below forbids it.
import { SCRIPT } from './script.js';

export const STYLE = `
:root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--ink:#1b2330;--soft:#5d6878;--line:#e3e7ed;--good:#0a7a4b;--bad:#b3261e;--goodbg:#e3f5ec;--badbg:#fdeceb;--warnbg:#fff6e0;--warn:#7a5200;
--c1:#2563eb;--c2:#d2691e;--c3:#0f8f6f;--c4:#b4318c;--c5:#6d4bd1;--c6:#64748b}
@media (prefers-color-scheme:dark){:root{--bg:#12161d;--card:#1a2029;--ink:#e6eaf0;--soft:#9aa6b6;--line:#2b3340;--good:#4ccf95;--bad:#ff8a80;--goodbg:#143226;--badbg:#3a1f1e;--warnbg:#362b10;--warn:#f2c86b;
--c1:#6ea8ff;--c2:#f0a35e;--c3:#4fd0ab;--c4:#f08ad0;--c5:#ab95ff;--c6:#94a3b8}}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:1180px;margin:0 auto;padding:28px 20px 60px}h1{font-size:26px;margin:0}h2{font-size:20px;margin:36px 0 12px}h3{font-size:16px;margin:22px 0 8px}h4{font-size:14px;margin:0 0 8px;color:var(--soft)}
.sub{color:var(--soft);margin:2px 0 18px}.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(140px,1fr));gap:12px}
.tile,figure,.card,table,.run{background:var(--card);border:1px solid var(--line);border-radius:10px}.tile{padding:12px 14px}.tile span{color:var(--soft);font-size:13px;display:block}.tile b{font-size:19px;font-weight:650}
.good{color:var(--good)}.bad{color:var(--bad)}.warn{background:var(--warnbg);color:var(--warn);border-radius:10px;padding:10px 14px;margin:10px 0 0}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(480px,100%),1fr));gap:14px}figure{margin:0;padding:12px 12px 6px;position:relative;min-width:0}figure.wide{grid-column:1/-1}figcaption small{display:block;color:var(--soft);font-size:12.5px}
svg{display:block;width:100%;height:auto;overflow:visible}.tick{font-size:11.5px;fill:var(--soft)}.grid{stroke:var(--line)}.axis{stroke:var(--soft);opacity:.5}.cursor{stroke:var(--soft);stroke-dasharray:3 3;visibility:hidden}
.line{fill:none;stroke:var(--c);stroke-width:2;stroke-linejoin:round;stroke-linecap:round}.line.faint{opacity:.38;stroke-width:1.2}.band{fill:var(--c);opacity:.13}.layer{fill:var(--c);opacity:.8}
.c1{--c:var(--c1)}.c2{--c:var(--c2)}.c3{--c:var(--c3)}.c4{--c:var(--c4)}.c5{--c:var(--c5)}.c6{--c:var(--c6)}
.legend{float:right;font-size:12.5px;color:var(--soft)}.legend i,.tip i{display:inline-block;width:10px;height:10px;border-radius:3px;background:var(--c);margin:0 5px 0 12px}.legend i.faint{opacity:.4}.tip i{margin-left:0}
.tip{position:absolute;display:none;pointer-events:none;background:var(--card);border:1px solid var(--line);border-radius:8px;padding:6px 10px;font-size:12.5px;box-shadow:0 4px 14px #0003;white-space:nowrap;z-index:2}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(330px,100%),1fr));gap:12px}.compare{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(420px,100%),1fr));gap:20px}.compare .card{margin-bottom:12px}
.card{padding:10px 14px;min-width:0}.card header{display:flex;justify-content:space-between;gap:10px;color:var(--soft);font-size:13px;margin-bottom:6px}.text{white-space:pre-wrap;overflow-wrap:anywhere}.card .text{max-height:340px;overflow:auto;font-family:ui-serif,Georgia,"DejaVu Serif",serif}
.prompt,.prompt-line{color:var(--soft)}.prompt::after{content:" ▸ ";color:var(--c1)}.prompt-line{margin:0 0 10px}.text em{color:var(--soft)}.chip{border-radius:99px;padding:0 9px;border:1px solid var(--line);white-space:nowrap}.chip.good{background:var(--goodbg)}.chip.bad{background:var(--badbg)}
.dot{fill:var(--c1);opacity:.45}.dot.flat{fill:var(--c6)}.mean{stroke:var(--ink);stroke-width:2}.tools{display:flex;flex-wrap:wrap;gap:16px;align-items:center;color:var(--soft);font-size:13.5px;margin:0 0 10px}.tools[hidden],[hidden]{display:none}.tools input,.tools select{font:inherit;color:inherit;background:var(--card);border:1px solid var(--line);border-radius:6px;padding:2px 6px;max-width:320px}
details{margin:8px 0}summary{cursor:pointer;color:var(--soft)}details .cards{margin-top:10px}.scroll{overflow-x:auto}table{border-collapse:separate;border-spacing:0;width:100%;font-size:14px}th,td{text-align:left;vertical-align:top;padding:7px 12px;border-bottom:1px solid var(--line)}tr:last-child td{border-bottom:0}th{color:var(--soft);font-weight:600}
.run td:first-child{color:var(--soft);white-space:nowrap;width:1%}footer{color:var(--soft);font-size:13px;margin-top:40px}
@media print{body{background:#fff}figure,.card{break-inside:avoid}}`;

/** A whole document. `body` is trusted HTML; `title` is escaped already. */
export function page(title: string, body: string): string {
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>${title}</title><style>${STYLE}</style></head>
<body><main>${body}</main><script>${SCRIPT}</script></body></html>
`;
}
