// Style and script of the HTML report.
#pragma once

namespace intaglio {

inline constexpr const char* kReportStyle = R"css(
:root{color-scheme:light dark;--bg:#f6f4ef;--card:#fffdf9;--ink:#1b2330;--muted:#626b78;
--rule:#e2ddd2;--track:#ebe7dd;--stream:#1f4f8f;--linear:#bf6a1f;--attention:#9c3d77;--norm:#2f855f;
--gelu:#87761a;--other:#7b8493;--good:#1f4f8f;--fair:#c98a1b;--poor:#c0392b;--band:#f3efe6}
@media (prefers-color-scheme:dark){:root{--bg:#13161b;--card:#1b1f26;--ink:#e9e7e2;--muted:#9aa3af;
--rule:#2e343d;--track:#2a303a;--stream:#82b3f4;--linear:#e59f61;--attention:#e283b9;--norm:#6fc69c;
--gelu:#d5c55f;--other:#8d96a5;--good:#6f9fe0;--fair:#e0b04a;--poor:#ff7b6b;--band:#20252d}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:1120px;margin:0 auto;padding:40px 24px 64px}
header{border-bottom:2px solid var(--ink);padding-bottom:18px;margin-bottom:24px}
.eyebrow{margin:0;font-size:12px;letter-spacing:.14em;text-transform:uppercase;color:var(--muted)}
h1{margin:4px 0 2px;font:600 34px/1.15 Georgia,"Times New Roman",serif}
h1,.name,.method{overflow-wrap:anywhere;unicode-bidi:isolate}
h2{margin:0 0 4px;font:600 21px/1.25 Georgia,"Times New Roman",serif}
section{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:20px 22px;
margin-top:20px}
p{margin:0}.note{color:var(--muted);font-size:13.5px;max-width:78ch;margin-bottom:12px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(165px,1fr));gap:14px;margin:0}
.tiles>div{background:var(--card);border:1px solid var(--rule);border-radius:10px;
padding:14px 16px;min-width:0}
.tiles+.tiles{margin-top:14px;grid-template-columns:repeat(auto-fit,minmax(250px,1fr))}
dt{color:var(--muted);font-size:13px}dd{margin:0}
dd.value{font-size:26px;font-weight:600;line-height:1.25;font-variant-numeric:tabular-nums}
.tiles+.tiles dd.value{font-size:17px}
dd.more{color:var(--muted);font-size:13px;overflow-wrap:anywhere}
.scroll{overflow-x:auto}
svg{display:block}
.depth{width:100%;min-width:660px;height:auto}
.axis{fill:var(--muted);font-size:12px;font-variant-numeric:tabular-nums}
.rule{stroke:var(--rule)}.band{fill:var(--band)}
.line{fill:none;stroke:var(--stream);stroke-width:2.2;stroke-linejoin:round}
.line.alone{stroke-width:1.6;stroke-dasharray:5 4;opacity:.65}
.dot{fill:var(--other);stroke:var(--card);stroke-width:.7}
.dot.stream{fill:var(--stream)}.dot.linear{fill:var(--linear)}.dot.attention{fill:var(--attention)}
.dot.norm{fill:var(--norm)}.dot.gelu{fill:var(--gelu)}.dot:hover{stroke:var(--ink);stroke-width:2}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;list-style:none;margin:0 0 10px;padding:0;
font-size:13px;color:var(--muted)}
.legend li{display:flex;align-items:center;gap:7px}
.legend svg{flex:none}.legend .dot{stroke:none}
table{width:100%;border-collapse:collapse;font-variant-numeric:tabular-nums}
th{text-align:left;font-size:12.5px;font-weight:600;color:var(--muted);padding:6px 10px 6px 0;
border-bottom:1px solid var(--ink);vertical-align:bottom}
th button{all:unset;cursor:pointer}th button:hover{color:var(--ink);text-decoration:underline}
th button:focus-visible{outline:2px solid var(--stream);outline-offset:2px}
th[aria-sort=ascending] button::after{content:" \2191"}
th[aria-sort=descending] button::after{content:" \2193"}
td{padding:8px 12px 8px 0;border-bottom:1px solid var(--rule);vertical-align:top}
tr:last-child td{border-bottom:0}
td.num{white-space:nowrap}.name{font-weight:600}
small{display:block;color:var(--muted);font-size:12.5px;font-weight:400;overflow-wrap:anywhere}
.poor-text{color:var(--poor);font-weight:600}
.bar{width:100%;height:8px;margin-top:5px;border-radius:2px}.bar.range,.bar.exponents{height:12px}
td .bar{min-width:110px}
.track{fill:var(--track)}.good{fill:var(--good)}.fair{fill:var(--fair)}.poor{fill:var(--poor)}
.tick,.zero{fill:var(--ink)}.zero{opacity:.45}
.inside{fill:var(--good)}.outside{fill:var(--poor)}
.e0{fill:#12395f}.e1{fill:#1f5c93}.e2{fill:#3b82bd}.e3{fill:#6fa9d8}.e4{fill:#a3c7e6}
.e5{fill:#e8c48a}.e6{fill:#dd9a4e}.e7{fill:#c96f26}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(230px,1fr));gap:18px 26px}
.cards>div{min-width:0}
.histogram{width:100%;height:auto;margin-top:6px}.code{fill:var(--attention)}
.none{fill:var(--other)}.histogram .axis{font-size:10px}
footer{margin-top:24px;color:var(--muted);font-size:13px}
@media (prefers-color-scheme:dark){.e0{fill:#245a8f}.e1{fill:#3d7fbd}.e2{fill:#6ba3d6}
.e3{fill:#9cc4e8}.e4{fill:#cfe3f5}}
@media (max-width:760px){
main{padding:24px 14px 40px}h1{font-size:27px}section{padding:16px 14px}
.tiles{grid-template-columns:1fr 1fr;gap:10px}.tiles>div:last-child:nth-child(odd){grid-column:1/-1}
.tiles+.tiles{grid-template-columns:1fr}
dd.value{font-size:22px}
thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
table,tbody{display:block}
tr{display:grid;grid-template-columns:1fr 1fr;gap:8px 16px;padding:14px 0;
border-bottom:1px solid var(--rule)}
tr:last-child{border-bottom:0}
td{display:block;padding:0;border:0;min-width:0}
td.wide{grid-column:1/-1}
td[data-label]::before{content:attr(data-label);display:block;color:var(--muted);font-size:12px}
}
@media print{body{background:#fff}section,.tiles>div{break-inside:avoid}}
)css";

/// Makes the headings of the table buttons that sort it. Cells give their key in data-key.
inline constexpr const char* kReportScript = R"js(
for (const head of document.querySelectorAll("th[data-sort]")) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener("click", () => {
    const ascending = head.ariaSort === null || head.ariaSort === "none"
      ? head.dataset.sort === "up" : head.ariaSort === "descending";
    for (const other of head.parentNode.children) other.ariaSort = "none";
    head.ariaSort = ascending ? "ascending" : "descending";
    const body = head.closest("table").tBodies[0];
    const key = (row) => Number(row.cells[head.cellIndex].dataset.key);
    const rows = [...body.rows].sort((a, b) => (key(a) - key(b)) * (ascending ? 1 : -1));
    body.append(...rows);
  });
}
)js";

}  // namespace intaglio
