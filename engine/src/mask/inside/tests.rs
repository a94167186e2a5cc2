use super::*;

mod random;
mod untouched;
mod whole;

/// Exact names without case, and `*token*`, `*secret*`, `*_password*`.
fn rule_of(key: &[u8]) -> Option<usize> {
    if key.len() < 3 {
        return None;
    }
    let exact =
        ["password", "authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "jsessionid", "pin"];
    if let Some(rule) = exact.iter().position(|name| name.as_bytes().eq_ignore_ascii_case(key)) {
        return Some(rule);
    }
    let key = key.to_ascii_lowercase();
    let globs: [&[u8]; 3] = [b"token", b"secret", b"_password"];
    globs.iter().position(|glob| memchr::memmem::find(&key, glob).is_some()).map(|glob| exact.len() + glob)
}

fn members_of(text: &[u8]) -> Vec<Member> {
    let mut members = Vec::new();
    find(text, Signs::ALL, &rule_of, &mut |member| members.push(member));
    members
}

fn replace(text: &str, range: impl Fn(&Member) -> Range<usize>, with: &str) -> String {
    let mut out = Vec::new();
    let mut copied = 0;
    for member in members_of(text.as_bytes()) {
        let range = range(&member);
        out.extend_from_slice(&text.as_bytes()[copied..range.start]);
        out.extend_from_slice(with.as_bytes());
        copied = range.end;
    }
    out.extend_from_slice(&text.as_bytes()[copied..]);
    String::from_utf8_lossy(&out).into_owned()
}

fn masked(text: &str) -> String {
    replace(text, |member| member.value.clone(), "#")
}

#[track_caller]
fn assert_masked(cases: &[(&str, &str)]) {
    let wrong: Vec<_> = cases
        .iter()
        .map(|&(text, expected)| (text, masked(text), expected))
        .filter(|(_, got, expected)| got != expected)
        .map(|(text, got, expected)| format!("{text}\n  gives   {got}\n  and not {expected}"))
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn values_of_pairs_are_found() {
    assert_masked(&[
        ("password=hunter2 user=bob", "password=# user=bob"),
        (r#"a=1 password="a b \"c\"" b=2"#, r##"a=1 password="#" b=2"##),
        ("password='x' a=1", "password='#' a=1"),
        ("password = x", "password = #"),
        ("PASSWORD:=x", "PASSWORD:=#"),
        ("--password=x -v", "--password=# -v"),
        ("Token{secret=abc, id=3}", "Token{secret=#, id=3}"),
        ("Config(password='x', port=1)", "Config(password='#', port=1)"),
        ("Config(password=x)", "Config(password=#)"),
        (r#"{:user=>"bob", :password=>"x"}"#, r##"{:user=>"bob", :password=>"#"}"##),
        (r#"{"user"=>"bob", "password" => "x"}"#, r##"{"user"=>"bob", "password" => "#"}"##),
        ("user: bob\npassword: hunter2\nport: 1", "user: bob\npassword: #\nport: 1"),
        ("password: |\n  a b\n  c\nport: 1", "password: |\n  #\nport: 1"),
        ("HOME=/root\nDB_PASSWORD=x y\nA=b", "HOME=/root\nDB_PASSWORD=# y\nA=b"),
        (
            "AuthException: login failed for password=hunter2, user=bob",
            "AuthException: login failed for password=#, user=bob",
        ),
        ("    password = 'x'\n    user = 'y'", "    password = '#'\n    user = 'y'"),
        ("if password == 'x' && a", "if password == '#' && a"),
        ("password=a,b;c|d&e user=x", "password=# user=x"),
        ("password=it's user=x", "password=# user=x"),
        ("password=a)b]c user=x", "password=# user=x"),
        ("(password=x), a", "(password=#), a"),
        ("password=x,user=bob", "password=#,user=bob"),
        ("password=x|user=bob", "password=#|user=bob"),
        ("password=x;user=bob", "password=#;user=bob"),
        ("secret=Secret(a, b) c", "secret=# c"),
        ("secrets=[a, b] c=d", "secrets=# c=d"),
        ("secrets={a: [b], c: 'd}'} e", "secrets=# e"),
        ("password=[x]y z", "password=# z"),
        ("password='abc'def x", "password='# x"),
        (r#"password = "a" + "b"; c"#, r##"password = "#"; c"##),
        ("password=<hunter2> x", "password=#> x"),
        (r#"{"token": 'y', 'a': 'b'}"#, r##"{"token": '#', 'a': 'b'}"##),
        ("password=$2b$12$abc/d user=x", "password=# user=x"),
        ("password=$argon2id$v=19$m=65536,t=3,p=4$c2Fs$aGFz user=x", "password=# user=x"),
        ("token=Bearer abc x=1", "token=# x=1"),
        ("token: Bearer abc next", "token: # next"),
        ("password= user=bob", "password= user=bob"),
        ("token=dGVzdA== user=bob", "token=# user=bob"),
        ("token= dGVzdA== user=bob", "token= # user=bob"),
        ("{'user': 'bob', 'password': 'x'}", "{'user': 'bob', 'password': '#'}"),
        ("{b'password': b'x', 'n': 1}", "{b'password': b'#', 'n': 1}"),
        ("{password: 'x', port: 1}", "{password: '#', port: 1}"),
        ("{password:x}", "{password:#}"),
        ("user=<b>password=x</b>", "user=<b>password=#</b>"),
        (r#"<user name="bob" password="x"/>"#, r##"<user name="bob" password="#"/>"##),
        ("пароль password=тайна, x", "пароль password=#, x"),
    ]);
}

#[test]
fn keys_may_have_segments() {
    assert_masked(&[
        ("user[password]=x&a=1", "user[password]=#&a=1"),
        ("user[0][password]=x", "user[0][password]=#"),
        ("password[]=x", "password[]=#"),
        (r#"config["password"] = "x""#, r##"config["password"] = "#""##),
        ("db.password=x", "db.password=#"),
        ("spring.datasource.password: x", "spring.datasource.password: #"),
        ("app/password=x", "app/password=#"),
        ("$password = 'x';", "$password = '#';"),
        ("@password='x', @a=1", "@password='#', @a=1"),
        ("[password=x]", "[password=#]"),
        (r"a\npassword=x\nb=c", r"a\npassword=#\nb=c"),
        (r"a=1\u0026password=x\u0026b=2", r"a=1\u0026password=#\u0026b=2"),
    ]);
}

#[test]
fn escapes_of_any_level_are_seen() {
    assert_masked(&[
        (r#"{"msg":"a=1 password=\"x y\" b=2","n":1}"#, r##"{"msg":"a=1 password=\"#\" b=2","n":1}"##),
        (r#"{"msg":"password=x"}"#, r##"{"msg":"password=#"}"##),
        (r#"{"msg":"{\"m\":\"password=\\\"x y\\\" b\"}"}"#, r##"{"msg":"{\"m\":\"password=\\\"#\\\" b\"}"}"##),
        (r#"{"msg":"{\"m\":\"password=x\"}"}"#, r##"{"msg":"{\"m\":\"password=#\"}"}"##),
        (r#"{"msg":"password=\"x","n":1}"#, r##"{"msg":"password=\"#","n":1}"##),
        (r#"{"msg":"password=x\n\tat a.b(c)"}"#, r##"{"msg":"password=#\n\tat a.b(c)"}"##),
        (r"password=DOMAIN\nick x", r"password=# x"),
    ]);
}

#[test]
fn a_value_without_end_reaches_to_the_end() {
    for (text, expected) in [
        ("password='a b", "password='#"),
        (r#"password="a b\" c"#, r##"password="#"##),
        ("password=[a, b", "password=#"),
        ("WHERE password LIKE 'x y", "WHERE password LIKE '#"),
        ("INSERT INTO t (a, password) VALUES (1, 'x y", "INSERT INTO t (a, password) VALUES (1, '#"),
        (r"INSERT INTO t (a, password) VALUES ('c:\', 'x'), (2, 'y')", "INSERT INTO t (a, password) VALUES (#"),
        ("<password>a b", "<password>#"),
        ("-H 'Authorization: Bearer x", "-H 'Authorization: #"),
    ] {
        assert_eq!(masked(text), expected, "{text}");
        assert!(members_of(text.as_bytes()).last().unwrap().unterminated, "{text}");
    }
    assert!(!members_of(b"password=x")[0].unterminated);
}

#[test]
fn options_of_command_lines_are_found() {
    assert_masked(&[
        ("mysql --user bob --password x -v", "mysql --user bob --password # -v"),
        ("mysql --password 'x y' -v", "mysql --password '#' -v"),
        ("mysql --password -v", "mysql --password -v"),
        ("mysql --api-token x", "mysql --api-token #"),
        (r#"["mysql", "--password", "x", "-v"]"#, r##"["mysql", "--password", "#", "-v"]"##),
        (r#"{"a":"[\"--password\", \"x\"]"}"#, r##"{"a":"[\"--password\", \"#\"]"}"##),
        ("-- password x", "-- password x"),
    ]);
}

#[test]
fn connection_strings_may_hold_blanks() {
    assert_masked(&[
        ("Server=x;Password=a b;User=y", "Server=x;Password=#;User=y"),
        ("Password=a b;User=y", "Password=#;User=y"),
        ("Server=x;Password=a b", "Server=x;Password=#"),
        (r#"cs="Server=x; Password=a b#c&d" z"#, r##"cs="Server=x; Password=#" z"##),
        ("a=1; password=x user=bob", "a=1; password=# user=bob"),
    ]);
}

#[test]
fn parameters_of_urls_are_found() {
    assert_masked(&[
        ("GET /?token=abc&x=1 HTTP/1.1", "GET /?token=#&x=1 HTTP/1.1"),
        ("https://h/#access_token=abc&state=1", "https://h/#access_token=#&state=1"),
        ("/a;jsessionid=abc#top", "/a;jsessionid=##top"),
        ("/a;jsessionid=abc HTTP/1.1", "/a;jsessionid=# HTTP/1.1"),
        (r#"<a href="/?token=a,b(c)&y">"#, r##"<a href="/?token=#&y">"##),
        ("[x](https://h/?a=1&token=abc).", "[x](https://h/?a=1&token=#)."),
        ("grant_type=x&password=a+b%20c&user=bob", "grant_type=x&password=#&user=bob"),
        ("?password=x&amp;user=bob", "?password=#&amp;user=bob"),
        ("/?redirect=%2Flogin%3Fpassword%3Dhunter2%26x%3D1&y=2", "/?redirect=%2Flogin%3Fpassword%3D#%26x%3D1&y=2"),
        ("/?r=%252F%253Fpassword%253Dx%2526a%253D1&y", "/?r=%252F%253Fpassword%253D#%2526a%253D1&y"),
        ("/?pass%77ord=x&y=1", "/?pass%77ord=#&y=1"),
        ("/?a=%20password=x", "/?a=%20password=#"),
        ("/?user%5Bpassword%5D=x&y=1", "/?user%5Bpassword%5D=#&y=1"),
        (
            "/?q=%7B%22password%22%3A%20%22a%20b%22%2C%22c%22%3A1%7D&d=1",
            "/?q=%7B%22password%22%3A%20%22#%22%2C%22c%22%3A1%7D&d=1",
        ),
        ("/?authorization=Bearer%20a&cookie=b&x=1", "/?authorization=#&cookie=#&x=1"),
        ("https://bob@h/?a=1 token=x", "https://bob@h/?a=1 token=#"),
    ]);
}

#[test]
fn headers_are_masked_to_the_end_of_their_line() {
    assert_masked(&[
        ("Authorization: Bearer abc\r\nAccept: */*", "Authorization: #\r\nAccept: */*"),
        (r"GET /\r\nauthorization: Bearer abc\r\nAccept: a", r"GET /\r\nauthorization: #\r\nAccept: a"),
        (r#"{"m":"Cookie: a=b; c=\"d e\"; f=g","n":1}"#, r##"{"m":"Cookie: #","n":1}"##),
        ("Cookie: a=b; token=c; d=e, f\nHost: h", "Cookie: #\nHost: h"),
        ("Set-Cookie: a=b; Path=/; HttpOnly", "Set-Cookie: #"),
        ("X-Api-Key: abc\nHost: h", "X-Api-Key: #\nHost: h"),
        ("curl -H 'Authorization: Bearer abc' -H 'A: b' u", "curl -H 'Authorization: #' -H 'A: b' u"),
        (r#"curl -H 'Authorization: Digest username="M x", realm="y"' u"#, "curl -H 'Authorization: #' u"),
        (r#"curl -H "X-Api-Key: abc" u"#, r##"curl -H "X-Api-Key: #" u"##),
        (r#"Proxy-Authorization: Digest username="M", response="y""#, "Proxy-Authorization: #"),
        ("{Authorization=[Bearer x], Accept=[*/*]}", "{Authorization=#, Accept=[*/*]}"),
        ("{authorization=Bearer x, accept=*/*}", "{authorization=#, accept=*/*}"),
        ("{cookie=a=b; c=d, accept=*/*}", "{cookie=#, accept=*/*}"),
        ("{authorization: Bearer x, accept: */*} done", "{authorization: #} done"),
        ("authorization=Basic dXNlcg== user=bob", "authorization=# user=bob"),
        ("authorization=Digest u=\"a\", r=\"b\"\nx", "authorization=#\nx"),
        ("env.cookie=a=b; c=d\nX=y", "env.cookie=#\nX=y"),
        ("map[Accept:[*/*] Authorization:[Bearer x]]", "map[Accept:[*/*] Authorization:#]"),
        ("[('Authorization', 'Bearer x'), ('A', 'b')]", "[('Authorization', '#'), ('A', 'b')]"),
        ("(b'authorization', b'Bearer x')", "(b'authorization', b'#')"),
        (r#"setHeader("Authorization", "Bearer x")"#, r##"setHeader("Authorization", "#")"##),
        ("{'Authorization': 'Bearer x y', 'A': 'b'}", "{'Authorization': '#', 'A': 'b'}"),
        (r#"msg="sent Cookie: a=b; c=d" level=info"#, r##"msg="sent Cookie: #" level=info"##),
    ]);
}

#[test]
fn literals_of_statements_are_found() {
    assert_masked(&[
        ("WHERE password = 'x' AND a = 1", "WHERE password = '#' AND a = 1"),
        ("SET password='it''s', a=1", "SET password='#', a=1"),
        (r#"WHERE "password" = 'x'"#, r##"WHERE "password" = '#'"##),
        ("WHERE `t`.`password` = 'x'", "WHERE `t`.`password` = '#'"),
        ("WHERE [password] = N'x'", "WHERE [password] = N'#'"),
        ("WHERE t.password='x' OR 1", "WHERE t.password='#' OR 1"),
        ("WHERE password IN ('a','b') AND", "WHERE password IN ('#','#') AND"),
        ("WHERE pin NOT IN (1, 2) AND x IN (3)", "WHERE pin NOT IN (#, #) AND x IN (3)"),
        ("WHERE password NOT LIKE 'x%' AND", "WHERE password NOT LIKE '#' AND"),
        ("password <> 'x' OR password != 'y'", "password <> '#' OR password != '#'"),
        ("pin <> 12 AND pin >= 3", "pin <> # AND pin >= #"),
        ("password BETWEEN 'a' AND 'b' AND c = 'd'", "password BETWEEN '#' AND '#' AND c = 'd'"),
        ("password = E'a\\'b' AND", "password = E'#' AND"),
        ("password = $$a 'b'$$ AND", "password = $$#$$ AND"),
        ("password = $t$a$$b$t$ AND", "password = $t$#$t$ AND"),
        ("pin = 1234 AND a = 1", "pin = # AND a = 1"),
        ("SET password = 'a' || 'b' WHERE", "SET password = '#' WHERE"),
        ("WHERE LOWER(t.password) = 'x' AND", "WHERE LOWER(t.password) = '#' AND"),
        ("WHERE COALESCE(password, '') LIKE 'x'", "WHERE COALESCE(password, '') LIKE '#'"),
        (
            "INSERT INTO t (a, password) OVERRIDING SYSTEM VALUE VALUES (1, 'x')",
            "INSERT INTO t (a, password) OVERRIDING SYSTEM VALUE VALUES (1, '#')",
        ),
        ("SET password = MD5('x') WHERE", "SET password = # WHERE"),
        ("SET password = ?, token = $1 WHERE", "SET password = ?, token = $1 WHERE"),
        ("CREATE USER bob IDENTIFIED BY 'x' b", "CREATE USER bob IDENTIFIED BY '#' b"),
        ("ALTER ROLE bob WITH ENCRYPTED PASSWORD 'x' b", "ALTER ROLE bob WITH ENCRYPTED PASSWORD '#' b"),
        ("SET PASSWORD FOR 'u'@'h' = PASSWORD('x')", "SET PASSWORD FOR 'u'@'h' = PASSWORD('#')"),
        (
            "INSERT INTO t (a, password, b) VALUES (1, 'x', 2), (3, 'it''s, y', 4)",
            "INSERT INTO t (a, password, b) VALUES (1, '#', 2), (3, '#', 4)",
        ),
        (
            "INSERT INTO t (`a`, `pin`, [token]) VALUES ('(', -1, ?), (NULL, 2.5, N'z')",
            "INSERT INTO t (`a`, `pin`, [token]) VALUES ('(', #, ?), (NULL, #, N'#')",
        ),
        (
            "insert into t(a,password) values(f(1, 'x'), crypt('y', gen_salt('bf')))",
            "insert into t(a,password) values(f(1, 'x'), crypt('#', gen_salt('#')))",
        ),
        (
            r#"{"q":"INSERT INTO t (a,\n \"password\")\nVALUES\n($1, 'x'),\n('z', $2)"}"#,
            r##"{"q":"INSERT INTO t (a,\n \"password\")\nVALUES\n($1, '#'),\n('z', $2)"}"##,
        ),
        ("INSERT INTO t (password, a) VALUES ('x', 1", "INSERT INTO t (password, a) VALUES ('#', 1"),
        ("INSERT INTO t (a, b) VALUES (1, 'x')", "INSERT INTO t (a, b) VALUES (1, 'x')"),
    ]);
}

#[test]
fn elements_are_found() {
    assert_masked(&[
        ("<a><password>x</password></a>", "<a><password>#</password></a>"),
        ("<ns:password type=\"t\">x y</ns:password>", "<ns:password type=\"t\">#</ns:password>"),
        ("<password>\n x\n</password>", "<password>#</password>"),
        ("<password><![CDATA[x]]></password>", "<password><![CDATA[#]]></password>"),
        ("<secret><a>x</a></secret> b", "<secret>#</secret> b"),
        ("<password/> <password></password>", "<password/> <password></password>"),
        ("usage: login <password> <user>", "usage: login <password> <user>"),
    ]);
}

#[test]
fn tokens_of_base64_are_masked_whole() {
    assert_masked(&[
        // {"user":"bob","password":"hunter2"}
        ("id eyJ1c2VyIjoiYm9iIiwicGFzc3dvcmQiOiJodW50ZXIyIn0= x", "id # x"),
        ("GET /a/b/eyJ1c2VyIjoiYm9iIiwicGFzc3dvcmQiOiJodW50ZXIyIn0", "GET /a/b/#"),
        // cut off
        ("id eyJ1c2VyIjoiYm9iIiwicGFzc3dvcmQiOiJodW50ZX", "id #"),
        // user=bob&password=hunter2
        ("a dXNlcj1ib2ImcGFzc3dvcmQ9aHVudGVyMg== b", "a # b"),
        // base64 of that
        ("a ZFhObGNqMWliMkltY0dGemMzZHZjbVE5YUhWdWRHVnlNZz09 b", "a # b"),
        // {"user":"bob","name":"hunter2"}
        ("id eyJ1c2VyIjoiYm9iIiwibmFtZSI6Imh1bnRlcjIifQ x", "id eyJ1c2VyIjoiYm9iIiwibmFtZSI6Imh1bnRlcjIifQ x"),
    ]);
}

#[test]
fn long_tokens_of_base64_are_not_looked_through() {
    // "ab=\"ab=\"…"
    let text = "YWI9ImFiPSJhYj0i".repeat(10_000);
    let members = members_of(text.as_bytes());
    assert_eq!(members.len(), 1);
    assert_eq!((&members[0].value, members[0].unterminated), (&(0..text.len()), true));
}

#[test]
fn members_name_their_rule() {
    let rules: Vec<usize> = members_of(b"password=x a_token=y Cookie: z").iter().map(|member| member.rule).collect();
    assert_eq!(rules, [0, 8, 3]);
}
